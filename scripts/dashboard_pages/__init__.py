"""The Grafana dashboards as data: a module a dashboard, and how they are drawn."""
