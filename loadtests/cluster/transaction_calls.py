"""TransactionService: accept, read back, follow, in the ledger that the REST uses.

A transaction is known by its hash; without one it gets the SHA-256 of its message, so that the
same message again is the same transaction. Laws: `Status.OK` is said after the commit has
returned, `wait_for_confirmation` or not, and the message comes back as it was accepted. A hash
that is taken is ALREADY_EXISTS, whatever else the transaction says; what REST would answer with
400 or 409 is a `Status` inside an answer, what it would answer with 503 is UNAVAILABLE. A
batch is committed in its order, `ordered` or not.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import StringValue
from grpc import StatusCode

from loadtests.clock import NS_PER_MS
from loadtests.cluster.committer import Outcome, Submission
from loadtests.cluster.generated.aurigraph_v11_pb2 import (
    DESCRIPTOR,
    BatchTransactionRequest,
    BatchTransactionResponse,
    GRPCTransaction,
    Status,
    SubmitTransactionRequest,
    SubmitTransactionResponse,
)
from loadtests.cluster.grpc_calls import RefusedCallError, Service, build_timestamp, now_timestamp
from loadtests.cluster.ledger import Record, Row
from loadtests.cluster.transaction_paths import MAX_BATCH, TransactionRequest
from loadtests.cluster.workings import TICK_S, Workings

RECENT: Final = 100  # transactions that a stream begins with
_PAGE: Final = 20  # transactions read at once for a stream: each may have megabytes
_MS_PER_S: Final = 1_000


class TransactionCalls:
    """Handlers."""

    def __init__(self, workings: Workings) -> None:
        self._loop = workings.loop
        self._store = workings.store
        self._committer = workings.committer

    def service(self) -> Service:
        """The service as it is registered."""
        return Service(
            descriptor=DESCRIPTOR.services_by_name["TransactionService"],
            handlers={
                "SubmitTransaction": self._submit,
                "SubmitBatch": self._submit_batch,
                "GetTransaction": self._get,
                "StreamTransactions": self._stream,
            },
            is_probe=False,
        )

    async def _submit(self, request: SubmitTransactionRequest) -> SubmitTransactionResponse:
        prepared = _prepare_single(request)
        if isinstance(prepared, Status):
            return _response(request.transaction.transaction_hash, prepared)
        limit_ms = request.confirmation_timeout_ms if request.wait_for_confirmation else 0
        try:
            async with asyncio.timeout(limit_ms / _MS_PER_S if limit_ms else None):
                outcome = await self._commit([prepared])
        except TimeoutError:
            message = f"not confirmed within {limit_ms} ms; it may be committed later"
            return _response(prepared.id, Status(code=Status.DEADLINE_EXCEEDED, message=message))
        return _committed(prepared, outcome, 0)

    async def _submit_batch(self, request: BatchTransactionRequest) -> BatchTransactionResponse:
        count = len(request.transactions)
        if not 1 <= count <= MAX_BATCH:
            overall = _invalid(f"a batch has 1 to {MAX_BATCH} transactions, not {count}")
            return BatchTransactionResponse(overall_status=overall)
        prepared = [_prepare(one) for one in request.transactions]
        rows = [one for one in prepared if isinstance(one, Row)]
        responses = iter(await self._commit_all(rows))
        return _batch_response(
            [
                next(responses)
                if isinstance(one, Row)
                else _response(transaction.transaction_hash, one)
                for transaction, one in zip(request.transactions, prepared, strict=True)
            ]
        )

    async def _commit_all(self, rows: Sequence[Row]) -> list[SubmitTransactionResponse]:
        if not rows:
            return []
        outcome = await self._commit(rows)
        return [_committed(row, outcome, position) for position, row in enumerate(rows)]

    async def _commit(self, rows: Sequence[Row]) -> Outcome:
        """What became of them; RefusedCallError if nothing could be stored."""
        told: asyncio.Future[Outcome] = self._loop.create_future()

        def done(outcome: Outcome) -> None:
            if not told.done():  # the client may have gone, or its patience
                told.set_result(outcome)

        if not self._committer.submit(Submission(entries=rows, done=done)):
            message = "too many transactions wait for a commit"
            raise RefusedCallError(StatusCode.UNAVAILABLE, message)
        outcome = await told
        if outcome.failure is not None:
            raise RefusedCallError(StatusCode.UNAVAILABLE, f"not stored: {outcome.failure}")
        return outcome

    def _get(self, request: StringValue) -> GRPCTransaction:
        record = self._store.record(request.value)
        if record is None:
            raise RefusedCallError(StatusCode.NOT_FOUND, "no transaction of that hash")
        transaction = _stored(record)
        if transaction is None:
            message = f"its amount, {record.entry.amount}, is no whole number of 64 bits"
            raise RefusedCallError(StatusCode.FAILED_PRECONDITION, message)
        return transaction

    async def _stream(self, _: Empty) -> AsyncIterator[GRPCTransaction]:
        """The last `RECENT` transactions of the ledger, oldest first, then each that is accepted.

        Of any node, at most `TICK_S` late. Never ends by itself: on an idle ledger it stays open
        and silent. Transactions of the REST whose amount is a fraction are left out.
        """
        seq = max(0, self._store.last_seq() - RECENT)
        while True:
            records = self._store.records_after(seq, _PAGE)
            for record in records:
                seq = record.seq
                transaction = _stored(record)
                if transaction is not None:
                    yield transaction
            if len(records) < _PAGE:
                await asyncio.sleep(TICK_S)


def _prepare_single(request: SubmitTransactionRequest) -> Row | Status:
    if not request.HasField("transaction"):
        return _invalid("there is no transaction")
    if request.confirmation_timeout_ms < 0:
        return _invalid("confirmation_timeout_ms must be a number from 0")
    return _prepare(request.transaction)


def _prepare(transaction: GRPCTransaction) -> Row | Status:
    """The row to store, or why there is none; id and amount follow the rule of the REST."""
    if not transaction.transaction_hash:
        digest = hashlib.sha256(transaction.SerializeToString(deterministic=True))
        transaction.transaction_hash = digest.hexdigest()
    fields = {"transactionId": transaction.transaction_hash, "amount": transaction.amount}
    try:
        msgspec.convert(fields, TransactionRequest)
    except msgspec.ValidationError as error:
        return _invalid(str(error))
    detail = transaction.SerializeToString()
    return Row(transaction.transaction_hash, str(transaction.amount), detail)


def _invalid(message: str) -> Status:
    return Status(code=Status.INVALID_ARGUMENT, message=message)


def _stored(record: Record) -> GRPCTransaction | None:
    """A transaction as it was accepted; None if the REST gave it an amount that fits no int64."""
    transaction = GRPCTransaction.FromString(record.detail)
    if not record.detail:
        amount = float(record.entry.amount)
        if not amount.is_integer():
            return None
        transaction.amount = int(amount)
        transaction.transaction_hash = record.entry.id
    if not transaction.HasField("timestamp"):
        created = build_timestamp(record.entry.created_ms * NS_PER_MS)
        transaction.timestamp.CopyFrom(created)
    transaction.status = "PROCESSED"
    return transaction


def _committed(row: Row, outcome: Outcome, position: int) -> SubmitTransactionResponse:
    """The response for the row at that position of a submission."""
    block = outcome.block
    if block is None or position in outcome.known:
        message = "this hash is already taken"
        return _response(row.id, Status(code=Status.ALREADY_EXISTS, message=message))
    return SubmitTransactionResponse(
        transaction_hash=row.id,
        status=Status(code=Status.OK),
        message=f"committed in block {block.height}",
        accepted_at=build_timestamp(block.created_ms * NS_PER_MS),
    )


def _response(hash_: str, status: Status) -> SubmitTransactionResponse:
    """The response for a transaction that was not accepted."""
    return SubmitTransactionResponse(
        transaction_hash=hash_, status=status, message=status.message, accepted_at=now_timestamp()
    )


def _batch_response(responses: Sequence[SubmitTransactionResponse]) -> BatchTransactionResponse:
    """All responses; the overall status is that of the first failure."""
    failures = [one for one in responses if one.status.code != Status.OK]
    overall = Status(code=Status.OK)
    if failures:
        message = f"{len(failures)} of {len(responses)} failed: {failures[0].message}"
        overall = Status(code=failures[0].status.code, message=message)
    return BatchTransactionResponse(
        responses=responses,
        total_processed=len(responses),
        successful=len(responses) - len(failures),
        failed=len(failures),
        overall_status=overall,
    )
