"""Answers in the form that a server always gives, taken from a read many at a time.

Between two changes of its dynamic table a server writes the answers to one call with the
same bytes, stream id and body aside: a *form*. A regular expression finds a whole run of
answers in a known form, a struct their stream ids; so an answer costs a third of what
reading its frames one by one does (`make bench`, gRPC). A form is learnt from answers that
were read frame by frame, and forgotten with the table that gave its blocks their meaning.

Servers order their frames in two ways, each stream's together or the heads of many first,
so a form has three kinds of runs. Answers of few sizes have few forms; where sizes vary
without end, the forms stay few and the rest is read frame by frame.

The law: what is taken here is whole frames of ordinary answers, in the order of the bytes.
At the first that is not, taking stops before it, and the long way decides.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from typing import Final

from loadtests.engine.exchange import Ended, Streams
from loadtests.engine.frames import END_HEADERS, END_STREAM, HEAD, HEAD_BYTES, FrameType
from loadtests.engine.grpc import PREFIX
from loadtests.engine.response_heads import Head, ResponseHeads
from loadtests.engine.task import StreamTask

MOST_FORMS: Final = 8  # of one connection: each is tried where those before it do not match
# Answers since the table changed before a connection learns a form; and answers on all
# connections before it is compiled: the 0.3 ms that this takes are then 2 us an answer even
# with a server that changes its table all the time.
# Not final: machine code would have the numbers in it, and the fuzz test has others.
SEEN_BEFORE = 8
SEEN_BEFORE_COMPILING = 128
_MOST_PATTERNS: Final = 128
_MOST_SEEN: Final = 1024
_MOST_CANDIDATES: Final = 64
_KIND_BYTES: Final = 5  # of a frame's head, before the stream id
_WHOLE, _HEADS, _TAILS = 1, 3, 4  # groups of the pattern: its runs

# A head's block, the bytes of DATA, the trailers' block (b"": DATA ends the stream).
Shape = tuple[bytes, int, bytes]


def _kind(length: int, kind: FrameType, flags: int) -> bytes:
    return re.escape(HEAD.pack(length << 8 | kind, flags, 0)[:_KIND_BYTES])


def _regular_expression(shape: Shape) -> bytes:
    """Three kinds of runs, each in a group; all stream ids of an answer must be the same."""
    block, data_bytes, trailers = shape
    head_kind, head_block = _kind(len(block), FrameType.HEADERS, END_HEADERS), re.escape(block)
    prefix = PREFIX.pack(0, data_bytes - PREFIX.size) if trailers else b""
    data_kind = _kind(data_bytes, FrameType.DATA, 0 if trailers else END_STREAM)
    body = re.escape(prefix) + b".{%d}" % (data_bytes - len(prefix))
    last_kind = _kind(len(trailers), FrameType.HEADERS, END_HEADERS | END_STREAM)

    def tail(name: bytes, same: bytes) -> bytes:
        last = last_kind + same + re.escape(trailers) if trailers else b""
        return data_kind + name + body + last

    whole = head_kind + b"(?P<id>.{4})" + head_block + tail(b"(?P=id)", b"(?P=id)")
    runs = (whole, head_kind + b".{4}" + head_block, tail(b"(?P<name>.{4})", b"(?P=name)"))
    return b"|".join([b"((?:%b)+)" % run for run in runs])


class _Pattern:
    """A shape compiled; shared by all connections of the engine."""

    __slots__ = ("head_bytes", "ids", "match", "tail_bytes")

    def __init__(self, shape: Shape) -> None:
        block, data_bytes, trailers = shape
        self.match = re.compile(_regular_expression(shape), re.DOTALL).match
        self.head_bytes = HEAD_BYTES + len(block)
        last_bytes = HEAD_BYTES + len(trailers) if trailers else 0
        self.tail_bytes = HEAD_BYTES + data_bytes + last_bytes
        self.ids: dict[int | None, Callable[[bytes], Iterator[tuple[int]]]] = {
            run: struct.Struct(f">{_KIND_BYTES}xI{size - HEAD_BYTES}x").iter_unpack
            for run, size in (
                (_WHOLE, self.head_bytes + self.tail_bytes),
                (_HEADS, self.head_bytes),
                (_TAILS, self.tail_bytes),
            )
        }


# Of all connections of this process: what is compiled, and how often the others were seen.
_patterns: dict[Shape, _Pattern] = {}
_seen: dict[Shape, int] = {}


def _is_ready(shape: Shape) -> bool:
    """Count a shape; True when it is compiled, or worth it."""
    if shape in _patterns:
        return True
    if len(_seen) >= _MOST_SEEN:
        _seen.clear()
    _seen[shape] = count = _seen.get(shape, 0) + 1
    return count >= SEEN_BEFORE_COMPILING


def _compiled(shape: Shape) -> _Pattern:
    pattern = _patterns.get(shape)
    if pattern is None:
        if len(_patterns) >= _MOST_PATTERNS:
            _patterns.clear()
        pattern = _patterns[shape] = _Pattern(shape)
        _seen.pop(shape, None)
    return pattern


class Form:
    """A shape on one connection, where its blocks have a meaning."""

    __slots__ = (
        "_code",
        "_is_grpc",
        "data_bytes",
        "head",
        "head_bytes",
        "ids",
        "match",
        "tail_bytes",
        "task",
    )

    def __init__(self, shape: Shape, head: Head, code: int) -> None:
        pattern = _compiled(shape)
        self.match, self.ids = pattern.match, pattern.ids
        self.head_bytes, self.tail_bytes = pattern.head_bytes, pattern.tail_bytes
        self.head, self.data_bytes = head, shape[1]
        self._is_grpc, self._code = bool(shape[2]), code
        self.task: StreamTask | None = None  # the last one whose answer was in this form

    def follows(self, head: Head) -> bool:
        """Tell whether the rest of an answer in this form is ordinary behind another head."""
        if self._is_grpc:
            return head.is_grpc
        return head.length is None or head.length == self.data_bytes

    def fits(self, task: StreamTask) -> bool:
        """Tell whether an answer of this form makes a request of the task ok, unseen."""
        return task.is_grpc == self._is_grpc and self._code in task.unchecked_statuses


class AnswerForms:
    """The forms of one connection; answers that are taken go to `ended.passed`."""

    __slots__ = (
        "_candidates",
        "_find",
        "_passed",
        "_sizes",
        "_streams",
        "flow_bytes",
        "known",
    )

    def __init__(self, streams: Streams, ended: Ended, heads: ResponseHeads) -> None:
        heads.on_change = self._clear
        self._find = heads.find
        self._streams = streams
        self._passed, self._sizes = ended.passed, ended.passed_bytes
        self._candidates: dict[Shape, int] = {}
        self.known: list[Form] = []
        self.flow_bytes = 0  # DATA since the connection's window was last given back

    def _clear(self) -> None:
        """Forget all: the table has changed, and the same bytes mean something else."""
        self.known.clear()
        self._candidates.clear()

    def note(self, head: Head, data_bytes: int, last: Head | None) -> None:
        """Count an ordinary answer that was read frame by frame; learn its form in time.

        `last` are its trailers, None where DATA ended the stream.
        """
        shape = (head.block, data_bytes, b"" if last is None else last.block)
        candidates = self._candidates
        count = candidates.get(shape, 0) + 1
        if count == 1 and len(candidates) >= _MOST_CANDIDATES:
            return
        candidates[shape] = count
        # A head that came before the last change of the table means nothing any more.
        is_current = self._find(head.block) is head
        is_ready = _is_ready(shape) and count >= SEEN_BEFORE
        if is_ready and len(self.known) < MOST_FORMS and is_current:
            candidates[shape] = -(1 << 62)  # once
            self.known.append(Form(shape, head, head.status if last is None else last.code))

    def take(self, data: bytes, at: int) -> int:
        """Take answers in known forms from `at` on; where they end."""
        known, size = self.known, len(data)
        while at < size:
            for form in known:
                found = form.match(data, at)
                if found is not None:
                    break
            else:
                return at
            run, end = found.lastindex, found.end()
            ids = form.ids[run](data[at:end])
            if run == _WHOLE:
                at += self._take_whole(form, ids)
            else:
                at += (self._take_heads if run == _HEADS else self._take_tails)(form, ids)
            if at < end:
                return at
        return at

    def _take_heads(self, form: Form, ids: Iterator[tuple[int]]) -> int:
        """Note the heads of answers whose rest is still to come; how many bytes they were."""
        streams, head, count = self._streams, form.head, 0
        records, heads = streams.records, streams.heads
        # Mostly nothing but heads has come of any answer.
        only_heads = not (streams.held or streams.exchanges)
        for (stream_id,) in ids:
            if stream_id not in records or stream_id in heads:
                break
            if not (only_heads or streams.is_fresh(stream_id)):
                break
            heads[stream_id] = head
            count += 1
        return count * form.head_bytes

    def _take_whole(self, form: Form, ids: Iterator[tuple[int]]) -> int:
        """End requests whose whole answers these are; how many bytes were taken."""
        streams, passed, log_size = self._streams, self._passed, self._sizes.append
        records, size = streams.records, form.head_bytes + form.tail_bytes
        before, task = len(passed), form.task
        # Mostly no answer has come in part, and every request is a fresh one.
        all_fresh = not (streams.heads or streams.held or streams.exchanges)
        for (stream_id,) in ids:
            record = records.get(stream_id)
            if record is None or not (all_fresh or streams.is_fresh(stream_id)):
                break
            if record[2] is not task:
                if not form.fits(record[2]):
                    break
                task = form.task = record[2]
            del records[stream_id]
            passed.append(record)
            log_size(size)
        count = len(passed) - before
        self.flow_bytes += count * form.data_bytes
        return count * size

    def _take_tails(self, form: Form, ids: Iterator[tuple[int]]) -> int:
        """End requests whose heads have come before; how many bytes were taken."""
        streams, passed, log_size = self._streams, self._passed, self._sizes.append
        records, heads = streams.records, streams.heads
        expected, size = form.head, form.head_bytes + form.tail_bytes
        before, task = len(passed), form.task
        for (stream_id,) in ids:
            head = heads.get(stream_id)
            if head is not expected:
                if head is None or not form.follows(head):
                    break
                expected, size = head, head.frame_bytes + form.tail_bytes
            record = records[stream_id]
            if record[2] is not task:
                if not form.fits(record[2]):
                    break
                task = form.task = record[2]
            del records[stream_id], heads[stream_id]
            passed.append(record)
            log_size(size)
        count = len(passed) - before
        self.flow_bytes += count * form.data_bytes
        return count * form.tail_bytes
