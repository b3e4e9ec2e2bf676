"""The types of a scenario's gRPC services: a descriptor set, made searchable.

Nothing is generated: messages are made from descriptors at run time, in a pool of their
own, so that two scenarios with types of the same name never meet. What a plan takes along
is the set of files that its calls need, without comments and positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from loadtests.plan.units import UnitError
from loadtests.plan.values import one_of

SET_EXPECTED: Final = "a FileDescriptorSet (protoc --descriptor_set_out, with --include_imports)"


def _decoded(data: bytes) -> dict[str, FileDescriptorProto]:
    try:
        files = FileDescriptorSet.FromString(data).file
    except DecodeError:
        raise UnitError(SET_EXPECTED) from None
    if not files:
        raise UnitError(f"{SET_EXPECTED}, with a file in it")
    return {file.name: file for file in files}


def _in_order(
    wanted: Iterable[str], files: Mapping[str, FileDescriptorProto]
) -> list[FileDescriptorProto]:
    """Files with all that they import, imports first; UnitError where one is missing."""
    found: dict[str, FileDescriptorProto] = {}
    entered: set[str] = set()
    stack = [(name, False) for name in sorted(wanted, reverse=True)]
    while stack:
        name, has_imports = stack.pop()
        if name not in files:
            raise UnitError(f"{SET_EXPECTED}: {name} is not in it")
        if has_imports:
            found[name] = files[name]
        elif name not in entered:
            entered.add(name)
            stack.append((name, True))
            stack += [(dependency, False) for dependency in files[name].dependency]
    return list(found.values())


def _pool(files: Iterable[FileDescriptorProto]) -> DescriptorPool:
    pool = DescriptorPool()
    for file in files:
        try:
            pool.AddSerializedFile(file.SerializeToString())
        except TypeError as error:
            raise UnitError(f"{SET_EXPECTED}: {error}") from None
    return pool


class Schema:
    """Services and messages of a descriptor set; UnitError when the bytes are not one."""

    __slots__ = ("_files", "_services", "pool")

    def __init__(self, descriptors: bytes) -> None:
        self._files = _decoded(descriptors)
        self.pool = _pool(_in_order(self._files, self._files))
        self._services = {
            f"{file.package}.{service.name}" if file.package else service.name: file
            for file in self._files.values()
            for service in file.service
        }

    @property
    def methods(self) -> tuple[str, ...]:
        """All methods, each as `pkg.Service/Method`."""
        return tuple(
            f"{name}/{method}"
            for name in sorted(self._services)
            for method in self.pool.FindServiceByName(name).methods_by_name
        )

    def method(self, name: str) -> MethodDescriptor:
        """The method `pkg.Service/Method`; UnitError says which were known."""
        service, _, method = name.rpartition("/")
        if service not in self._services:
            raise UnitError(one_of(name, self.methods, 'the methods "pkg.Service/Method"'))
        found = self.pool.FindServiceByName(service).methods_by_name
        if method not in found:
            raise UnitError(one_of(method, tuple(found), f"the methods of {service}"))
        return found[method]

    def needed(self, methods: Iterable[str]) -> bytes:
        """A descriptor set of the files that these methods need, imports first."""
        wanted = {self._services[method.rpartition("/")[0]].name for method in methods}
        files = FileDescriptorSet()
        for file in _in_order(wanted, self._files):
            files.file.add().CopyFrom(file)
            files.file[-1].ClearField("source_code_info")
        return files.SerializeToString(deterministic=True)


def message_type(descriptors: bytes, name: str) -> Descriptor:
    """The message type of this full name; KeyError when the set does not hold it."""
    return Schema(descriptors).pool.FindMessageTypeByName(name)


def message_class(kind: Descriptor) -> type[Message]:
    """The class of a message type."""
    return GetMessageClass(kind)


def is_map(field: FieldDescriptor) -> bool:
    """True for a map, which is a list of entries on the wire."""
    kind = field.message_type
    return kind is not None and kind.GetOptions().map_entry
