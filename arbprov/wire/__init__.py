"""The gRPC connection to the hub. Only this package and the bundled hub import `grpc`."""
