// Talking to the server: JSON, server-sent events, and errors in OpenAI's shape.

const KEY = "tandem.key";

/** An answer that is an error, or none at all (`status` 0). */
export class ApiError extends Error {
  constructor(status, error = {}, retryAfter = null) {
    super(String(error.message || `the server answered ${status} and gave no reason`));
    this.status = status;
    this.kind = error.type ? String(error.type) : null;
    this.param = error.param ? String(error.param) : null;
    this.code = error.code ? String(error.code) : null;
    this.retryAfter = retryAfter;
  }
}

/** The API key: for this tab only. */
export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

/** Return what a GET of `path` answers. Throws ApiError. */
export async function get(path) {
  return (await send(path, {})).json();
}

/** Return the status text of /readyz; null where the server cannot be asked. */
export async function readiness() {
  try {
    const answer = await (await fetch("/readyz", { cache: "no-store" })).json();
    return String(answer.status);
  } catch {
    return null;
  }
}

/** Yield the chunks of a streamed answer to `body`. Throws ApiError, also in the midst; AbortError where stopped. */
export async function* chat(body, signal) {
  const response = await send("/v1/chat/completions", {
    method: "POST",
    body: JSON.stringify(body),
    headers: { "Content-Type": "application/json" },
    signal,
  });
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(response.status, chunk.error);
    yield chunk;
  }
  throw new ApiError(response.status, { message: "the stream broke off before its end" });
}

async function send(path, options) {
  const own = key.get();
  const headers = { ...options.headers, ...(own ? { Authorization: `Bearer ${own}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (failure) {
    if (failure.name === "AbortError") throw failure;
    throw new ApiError(0, { message: "the server cannot be reached; is it still running?" });
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  throw new ApiError(response.status, answer.error, response.headers.get("Retry-After"));
}

/** Yield the data of each event in a body. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch(broken);
      if (done) return;
      const lines = (held + value).split(/\r?\n/);
      held = lines.pop();
      for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trimStart();
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function broken(failure) {
  if (failure.name === "AbortError") throw failure;
  throw new ApiError(0, { message: "the connection was lost in the midst of the answer" });
}
