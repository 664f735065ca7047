"""One machine, nothing to install beforehand: every process and both servers as children."""
