"""The table of checks, in the order of the report."""

from collections.abc import Sequence

from tools.streamcheck import call_checks as calls
from tools.streamcheck import chunk_checks as chunks
from tools.streamcheck import timing_checks as times
from tools.streamcheck import wire_checks as wire
from tools.streamcheck.check import Check
from tools.streamcheck.client import replay

CHECKS: Sequence[Check] = (
    wire.status,
    wire.content_type,
    wire.cache_control,
    wire.not_compressed,
    wire.whole_body,
    wire.ends_after_done,
    wire.utf8,
    wire.line_ends,
    wire.frames,
    wire.comments,
    wire.json_data,
    wire.no_error_frame,
    wire.done,
    chunks.types,
    chunks.object_name,
    chunks.identity,
    chunks.keys,
    chunks.choices,
    chunks.role,
    chunks.finish,
    chunks.finish_fits,
    chunks.usage,
    chunks.content,
    calls.tool_called,
    calls.one_call_a_delta,
    calls.call_indices,
    calls.call_names,
    calls.call_arguments,
    times.not_buffered,
    times.small_pieces,
    times.no_long_silence,
    replay,
)
