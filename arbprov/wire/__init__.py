"""The gRPC connection to the hub; only this folder and the bundled hub import `grpc`."""
