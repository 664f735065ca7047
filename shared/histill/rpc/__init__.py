"""What every gRPC service has: start and drain, interceptor, health, statuses, channels."""
