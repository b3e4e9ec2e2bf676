"""What asyncio calls on a connection, beside what each kind does its own way.

An `asyncio.Protocol` by its methods, not by its base: derived from a class that is not
compiled, a connection could not be machine code (`loadtests.compiled`), and uvloop asks for no
more than the methods.
"""

from __future__ import annotations


class Listener:
    """A protocol that has nothing to say to flow control."""

    __slots__ = ()

    def eof_received(self) -> None:
        """The peer has closed its side: the transport closes ours."""

    def pause_writing(self) -> None:
        """More is waiting to be sent than the transport likes: connections bound it themselves."""

    def resume_writing(self) -> None:
        """It has been sent."""
