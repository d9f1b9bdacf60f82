// Tools: a form for each declaration, and for each call a form of its arguments by the declared schema.

import { element } from "./dom.js";

const EXAMPLE = {
  name: "get_weather",
  description: "The weather in a city.",
  parameters: '{\n  "type": "object",\n  "properties": {"city": {"type": "string", "description": "The city"}},\n  "required": ["city"]\n}',
  result: '{"sky": "clear", "celsius": 21}',
};
const NAME = /^[A-Za-z0-9_-]{1,64}$/;

/** The forms of the declared tools, inside `root`. */
export class ToolForms {
  #tools = [];

  constructor(root, changed) {
    this.root = root;
    this.changed = changed;
  }

  add(tool = this.#tools.length ? { name: "", description: "", parameters: '{"type": "object", "properties": {}}', result: "" } : EXAMPLE) {
    const id = `tool-${crypto.getRandomValues(new Uint32Array(1))[0]}`;
    const field = (name, label, node) => {
      node.id = `${id}-${name}`;
      node.value = tool[name] || "";
      node.addEventListener("input", () => this.changed());
      return [node, element("div", {}, element("label", { for: node.id }, label), node)];
    };
    const [name, nameRow] = field("name", "Name", element("input", { spellcheck: "false" }));
    const [description, descriptionRow] = field("description", "What it is for", element("input"));
    const [parameters, parametersRow] = field("parameters", "Parameters, as a JSON schema", element("textarea", { rows: 5, class: "code", spellcheck: "false" }));
    const [result, resultRow] = field("result", "Its result; empty to be asked", element("textarea", { rows: 2, class: "code", spellcheck: "false" }));
    const form = { name, description, parameters, result };
    const remove = element("button", { type: "button", class: "quiet", on: { click: () => this.#remove(form) } }, "Remove this tool");
    form.node = element("div", { class: "tool", role: "group", "aria-label": "A tool" }, nameRow, descriptionRow, parametersRow, resultRow, element("div", {}, remove));
    this.#tools.push(form);
    this.root.append(form.node);
    this.changed();
  }

  #remove(form) {
    this.#tools = this.#tools.filter((each) => each !== form);
    form.node.remove();
    this.changed();
  }

  get count() {
    return this.#tools.length;
  }

  /** The tools as a request has them. Throws an Error whose message is for the person. */
  declared() {
    return this.#tools.map(({ name, description, parameters }) => {
      if (!NAME.test(name.value)) throw new Error(`A tool's name is made of letters, digits, _ and -, not "${name.value}".`);
      return { type: "function", function: { name: name.value, description: description.value, parameters: schemaOf(name.value, parameters.value) } };
    });
  }

  /** The result that is to be given without asking, "" to ask. */
  stub(name) {
    return this.#tools.find((each) => each.name.value === name)?.result.value || "";
  }

  /** Fill in the tools of a request. */
  fill(tools) {
    for (const form of [...this.#tools]) this.#remove(form);
    for (const { function: tool } of tools) {
      if (tool) this.add({ name: tool.name, description: tool.description, parameters: JSON.stringify(tool.parameters || {}, null, 2), result: "" });
    }
  }
}

function schemaOf(name, text) {
  try {
    const schema = JSON.parse(text);
    if (schema && typeof schema === "object" && !Array.isArray(schema)) return schema;
  } catch {
    // said below
  }
  throw new Error(`The parameters of the tool "${name}" are no JSON object.`);
}

/** A card for a call: its arguments by the schema, and a field for its result. `answered(text)` is called once. */
export function callCard(call, declaration, stub, answered) {
  const id = `call-${crypto.getRandomValues(new Uint32Array(1))[0]}`;
  const result = element("textarea", { id, rows: 2, class: "code", spellcheck: "false" });
  result.value = stub;
  const send = element("button", { type: "button", class: "quiet" }, "Send the result");
  send.addEventListener("click", () => {
    send.disabled = result.readOnly = true;
    answered(result.value);
  });
  const card = element("div", { class: "call", role: "group", "aria-label": `Call of ${call.function.name}` },
    element("h3", {}, `Calls ${call.function.name}`), argumentsOf(call, declaration),
    element("label", { for: id }, "Result"), result, element("div", { class: "row" }, send));
  return { card, send };
}

function argumentsOf(call, declaration) {
  let values;
  try {
    values = JSON.parse(call.function.arguments || "{}");
  } catch {
    values = null;
  }
  if (!values || typeof values !== "object") return element("pre", { tabindex: 0 }, call.function.arguments);
  const described = declaration?.function.parameters?.properties || {};
  const names = [...new Set([...Object.keys(described), ...Object.keys(values)])];
  return element("div", { class: "arguments" }, ...names.map((name) => {
    const id = `argument-${crypto.getRandomValues(new Uint32Array(1))[0]}`;
    const field = element("input", { id, readonly: true });
    const value = values[name];
    field.value = value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value);
    const about = described[name]?.description;
    return element("div", {}, element("label", { for: id }, about ? `${name}: ${about}` : name), field);
  }));
}
