// The choice of a model, and what a first visit should know: the list, who answers, keys, providers.

import { ApiError, get, storedKey, storeKey } from "./api.js";
import { element } from "./dom.js";

const OTHER = "\0other";

const NOT_TO_TALK = /embed|rerank|moderation|dall-e|image|ideogram|recraft|whisper|tts|transcri/i;

/** Whether a model looks like one that answers: lists do not say what a model is for. */
export const isToTalk = (id) => !NOT_TO_TALK.test(id);
export const firstToTalk = (ids) => ids.find(isToTalk) || ids[0] || "";

/** Load the models into a select, grouped by who owns them. Returns their ids. Throws ApiError. */
export async function fillModels(select) {
  const { data } = await get("/v1/models");
  select.replaceChildren(...[...grouped(data)].map(([owner, models]) =>
    element("optgroup", { label: owner }, ...models.map(({ id }) => element("option", { value: id }, id)))));
  select.append(element("option", { value: OTHER }, "Another name ..."));
  return data.map(({ id }) => id);
}

function grouped(models) {
  const groups = new Map();
  for (const model of models) {
    const owner = String(model.owned_by || "others");
    groups.set(owner, [...(groups.get(owner) || []), model]);
  }
  return groups;
}

/** A select and a field for names that no list has, as one. */
export class ModelChoice {
  constructor(select, field, changed) {
    Object.assign(this, { select, field });
    select.addEventListener("change", () => {
      this.field.hidden = select.value !== OTHER;
      if (!this.field.hidden) this.field.focus();
      changed();
    });
    field.addEventListener("input", changed);
  }

  get value() {
    return this.select.value === OTHER || !this.select.value ? this.field.value.trim() : this.select.value;
  }

  set value(name) {
    const has = [...this.select.options].some((option) => option.value === name);
    this.select.value = has ? name : OTHER;
    this.field.hidden = has;
    if (!has) this.field.value = name;
  }
}

/** What is to be said of a failure to whoever sits here: which key, and what mends it. */
export function noticeOf(error) {
  const key = storedKey();
  if (!(error instanceof ApiError) || error.status !== 401) return element("p", { class: "notice bad" }, error.message);
  const which = key ? `The key ${masked(key)} was refused. ` : "This server wants a key: put it into the field Key. ";
  return element("p", { class: "notice bad" }, which, element("span", { class: "soft" }, error.message));
}

/** Enough of a key to know which one it is. */
function masked(key) {
  return key.length > 11 ? `${key.slice(0, 3)}...${key.slice(-4)}` : `of ${key.length} characters`;
}

/** What a first visit should know of the providers; null where a real one answers. */
export async function providersNotice() {
  const { providers, default: usual } = await get("/v1/providers");
  if (usual !== "demo" || providers.some(({ name, available }) => available && name !== "demo")) return null;
  const lacking = providers.filter(({ available }) => !available);
  return element("div", { class: "notice" },
    element("p", {}, "No provider is configured yet, so the built-in demo answers: it works offline and repeats what it hears. One line in the file .env brings a real model."),
    element("details", {}, element("summary", {}, "What each provider needs"),
      element("div", { class: "scroll" }, element("table", {}, element("tbody", {}, ...lacking.map(({ name, reason }) =>
        element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, reason || "Is not set up."))))))));
}

/** Keep what is typed into a field as the key; `changed()` once it is complete. */
export function keepKey(field, changed) {
  field.value = storedKey();
  field.addEventListener("change", () => {
    storeKey(field.value.trim());
    changed();
  });
}
