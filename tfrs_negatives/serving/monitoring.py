"""Counts of what was answered, for Prometheus, and a line in the log for each."""

from __future__ import annotations

import bisect
import collections
import json
import logging
from collections.abc import Iterable, Mapping

from tfrs_negatives.serving import request_id
from tfrs_negatives.serving.request_error import HTTP_STATUS

_log = logging.getLogger("tfrs_negatives.access")

# Microseconds, 10 times 1.8^n as TensorFlow Serving's.
_BOUNDS = tuple(10 * 1.8**n for n in range(33))

# Names of gRPC codes by the HTTP status that stands for them.
_CODES = {200: "OK", 405: "UNIMPLEMENTED"} | {
    status: code for code, status in HTTP_STATUS.items()
}

_LONGEST = 200


class Monitoring:
    """Counts answers by protocol and code, and predictions by time.

    All methods are called in the event loop.

    Args:
      name: What clients call the model.
      logs: Whether each answer is logged.
    """

    def __init__(self, name: str, logs: bool = False) -> None:
        self._name, self._logs = name, logs
        # By protocol and code: an HTTP status, or the name of gRPC's.
        self._answers: collections.Counter[tuple[str, str]] = collections.Counter()
        # By entry point and name of the code.
        self._predictions: collections.Counter[tuple[str, str]] = collections.Counter()
        # By entry point: how many took up to each bound, or longer; and their sum.
        self._times: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def note(
        self,
        protocol: str,
        code: int | str,
        seconds: float,
        method: str,
        path: str,
        client: str,
    ) -> None:
        """Counts an answer.

        Args:
          protocol: "REST" or "GRPC".
          code: HTTP status, or name of a gRPC code.
          seconds: How long it took.
          method, path: What was asked: of gRPC, "" and the method.
          client: The address that asked.
        """
        self._answers[protocol, str(code)] += 1
        if path.endswith((":predict", "/Predict")):
            name = code if isinstance(code, str) else _CODES.get(code, "UNKNOWN")
            self._predictions[protocol, name] += 1
            times = self._times.setdefault(protocol, [0] * (len(_BOUNDS) + 1))
            times[bisect.bisect_left(_BOUNDS, 1e6 * seconds)] += 1
            so_far = self._sums.get(protocol, 0.0)
            self._sums[protocol] = so_far + 1e6 * seconds
        if self._logs:
            fields = {
                "protocol": protocol,
                "client": client,
                "method": method,
                "path": path[:_LONGEST],
                "code": code,
                "milliseconds": round(1000 * seconds, 3),
                "request_id": request_id.current.get(),
            }
            # JSON escapes what a terminal would act upon.
            text = " ".join(json.dumps(value) for value in fields.values())
            _log.info("%s", text, extra={"fields": fields})

    def text(
        self, states: Iterable[tuple[int, str, str]], gauges: Mapping[str, float]
    ) -> str:
        """All counts in Prometheus's text format.

        Names that begin with `:tensorflow:` are TensorFlow Serving's.

        Source: https://prometheus.io/docs/instrumenting/exposition_formats/

        Args:
          states: Number, state and message of each version.
          gauges: Dict from name to number, of what is at present.
        """
        lines = []
        count = ":tensorflow:serving:request_count"
        latency = ":tensorflow:serving:request_latency"
        lines.append(f"# TYPE {count} counter")
        totals: collections.Counter[str] = collections.Counter()
        for (_, code), number in self._predictions.items():
            totals[code] += number
        for code, number in totals.items():
            labels = _labels(model_name=self._name, status=code)
            lines.append(f"{count}{labels} {number}")
        lines.append(f"# TYPE {latency} histogram")
        for protocol, times in self._times.items():
            known = {
                "model_name": self._name,
                "API": "Predict",
                "entrypoint": protocol,
            }
            so_far = 0
            for bound, number in zip((*_BOUNDS, "+Inf"), times, strict=True):
                so_far += number
                labels = _labels(**known, le=str(bound))
                lines.append(f"{latency}_bucket{labels} {so_far}")
            lines.append(f"{latency}_sum{_labels(**known)} {self._sums[protocol]}")
            lines.append(f"{latency}_count{_labels(**known)} {so_far}")
        lines.append("# TYPE tfrs_negatives_answers_total counter")
        for (protocol, code), number in sorted(self._answers.items()):
            labels = _labels(protocol=protocol, code=code)
            lines.append(f"tfrs_negatives_answers_total{labels} {number}")
        lines.append("# TYPE tfrs_negatives_version_state gauge")
        for number, state, _ in states:
            labels = _labels(model_name=self._name, version=str(number), state=state)
            lines.append(f"tfrs_negatives_version_state{labels} 1")
        for name, value in gauges.items():
            lines.append(f"# TYPE tfrs_negatives_{name} gauge")
            lines.append(f"tfrs_negatives_{name} {value}")
        return "\n".join(lines) + "\n"


def _labels(**labels: str) -> str:
    parts = []
    for name, value in labels.items():
        for sign, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n")):
            value = value.replace(sign, escaped)
        parts.append(f'{name}="{value}"')
    return "{" + ",".join(parts) + "}"


class JsonLines(logging.Formatter):
    """Log records as one JSON object a line, with the id of the request that is there.

    A handler that formats records in other threads than those that log sees no ids.
    """

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            **(getattr(record, "fields", None) or {"message": record.getMessage()}),
        }
        if named := request_id.current.get():
            line["request_id"] = named
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)
