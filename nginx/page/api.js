// The API's endpoints. Every call ends in its reply or in an ApiError; an aborted one in an AbortError.

const JSON_TYPE = { "Content-Type": "application/json" };

/** What went wrong, in words for the reader. status 0: no reply came. problem: the problem+json object. */
export class ApiError extends Error {
  constructor(status, title, detail, retryAfterS = 0, problem = null) {
    super(detail);
    Object.assign(this, { status, title, detail, retryAfterS, problem });
  }
}

async function call(path, options) {
  let reply;
  try {
    reply = await fetch(path, { credentials: "same-origin", redirect: "error", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "No connection", "The server cannot be reached. Is the network up?");
  }
  let body = null;
  try {
    body = await reply.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
  }
  if (reply.ok && body !== null) return body;
  const title = body?.title || (reply.ok ? "Unreadable reply" : "The server failed");
  const detail = body?.detail || "The server's reply could not be read.";
  throw new ApiError(reply.status, title, detail, Number(reply.headers.get("Retry-After")) || 0, body);
}

/** POST /qasearch: the answers from the `offset`th on, as many as the API gives at once. only: years, articles. */
export function ask(question, only, offset, signal) {
  const body = JSON.stringify({ search: question, ...only, offset });
  return call("/qasearch", { method: "POST", headers: JSON_TYPE, body, signal });
}

/** GET /search: concepts, nodes and links of a text. */
export function search(text, { limit, offset = 0 }, signal) {
  return call(`/search?${new URLSearchParams({ search: text, limit, offset })}`, { signal });
}

/** GET /articles/<name>: the article and a page of its sentences. */
export function article(name, { limit, offset = 0 }) {
  const headers = { Accept: "application/json" }; // the same address is the reading page
  return call(`/articles/${encodeURIComponent(name)}?${new URLSearchParams({ limit, offset })}`, { headers });
}

/** GET /watch/dashboards: {dashboards: [{uid, title}], measured}. */
export const dashboards = (signal) => call("/watch/dashboards", { signal });

/** GET /watch/dashboards/<uid>: Grafana's JSON. */
export const dashboard = (uid, signal) => call(`/watch/dashboards/${encodeURIComponent(uid)}`, { signal });

/** GET /watch/dashboards/<uid>/panels/<id>: its series over the last `rangeS` seconds. */
export function panelData(uid, id, rangeS, signal) {
  return call(`/watch/dashboards/${encodeURIComponent(uid)}/panels/${id}?range_s=${rangeS}`, { signal });
}

/** GET /edge/<source>:<target>: the sentences behind a link. */
export function edge({ source, target }, { limit, offset = 0 }, signal) {
  const name = `${encodeURIComponent(source)}:${encodeURIComponent(target)}`;
  return call(`/edge/${name}?${new URLSearchParams({ limit, offset })}`, { signal });
}
