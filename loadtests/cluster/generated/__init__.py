"""Messages of `protos/`, written by protoc (`make protos`); never edited by hand."""
