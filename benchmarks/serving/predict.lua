-- For wrk: asks for 10 candidates of a random user; prints one line of JSON.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"

function init(arguments)
  math.randomseed(1)
end

function request()
  local user = math.random(0, 99999)
  return wrk.format(nil, nil, nil, '{"inputs":{"user":["u' .. user .. '"],"k":10}}')
end

function done(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format(
    'JSON {"p50_ms": %f, "p99_ms": %f, "requests": %d, "seconds": %f, "failed": %d}\n',
    latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    summary.requests, summary.duration / 1e6, failed))
end
