// Links that fill in a page: `#try=` and a request's body. The part behind # is not sent to the server.

/** Where a link to a page with this request leads. Images are left out: they are too long for a link. */
export function linkTo(path, { model, messages }) {
  const texts = messages.filter(({ content }) => typeof content === "string");
  return `${path}#try=${encodeURIComponent(JSON.stringify({ model, messages: texts }))}`;
}

/** What this page's link fills in: {model, words, system, temperature, tools}, null without one. Throws an Error whose
 * message is for the person. */
export function filledIn() {
  const given = /^#try=(.+)$/.exec(location.hash);
  if (!given) return null;
  try {
    const { model, messages, temperature, tools } = JSON.parse(decodeURIComponent(given[1]));
    const last = (role) => (Array.isArray(messages) ? messages : []).filter((each) => each?.role === role && typeof each.content === "string").at(-1)?.content;
    return {
      model: typeof model === "string" ? model : "", words: last("user"), system: last("system"),
      temperature: typeof temperature === "number" ? temperature : undefined, tools: Array.isArray(tools) ? tools : [],
    };
  } catch {
    throw new Error("The request in this page's link cannot be read.");
  }
}
