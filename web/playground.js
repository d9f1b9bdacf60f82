// The playground: wires the parts of its page together.

import { Conversation } from "./conversation.js";
import { copy, element, find } from "./dom.js";
import { filledIn } from "./links.js";
import { fillModels, firstToTalk, keepKey, ModelChoice, noticeOf, providersNotice } from "./models.js";
import { hintOf, RECIPES } from "./recipes.js";
import { abilities, canListen, canSpeak } from "./speech.js";
import { ToolForms } from "./tools.js";
import { TurnView } from "./turn_view.js";
import { VoiceLoop } from "./voice_loop.js";

const SUGGESTIONS = ["Good morning, who is there?", "Say: One moment, please. I am looking it up.", "Count to thirty"];
const MOST_IMAGE_BYTES = 8_000_000;

const message = find("#message");
const model = new ModelChoice(find("#model"), find("#other-model"), showRecipe);
const tools = new ToolForms(find("#tools"), () => { find("#tools-count").textContent = tools.count ? `(${tools.count})` : ""; });
const view = new TurnView();
let image = "";

const conversation = new Conversation({
  settings: () => ({
    model: model.value,
    system: find("#system").value.trim(),
    temperature: find("#temperature").value === "" ? undefined : Number(find("#temperature").value),
    tools: tools.declared(),
  }),
  tools,
  shown: (turn) => view.show(turn),
  changed,
  said: (sentence, turn) => {
    find("#announced").textContent = sentence;
    voice.say(sentence, turn);
  },
  ended: (turn) => voice.answered(turn),
  failed: (error) => find("#notices").replaceChildren(noticeOf(error)),
});
const voice = new VoiceLoop({
  state: find("#voice-state"),
  aloud: find("#aloud"),
  bargesIn: () => find("#barge-in").checked,
  button: find("#talk"),
  send: (words, endOfSpeech) => send(words, endOfSpeech),
  interrupt: () => conversation.stop(),
  busy: () => conversation.busy,
  changed: () => { changed(); view.refresh(); },
});

function send(words, endOfSpeech = null) {
  if (!words.trim() && !image) return;
  voice.stop();
  conversation.ask(words.trim(), { image, endOfSpeech });
  attach("");
}

function changed() {
  find("#stop").disabled = !conversation.busy && !voice.speaking;
  find("#empty").hidden = !conversation.isEmpty;
}

function stop() {
  voice.stop();
  conversation.stop();
  changed();
}

find("#composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const words = message.value;
  message.value = "";
  send(words);
});
message.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  find("#composer").requestSubmit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stop();
});
find("#stop").addEventListener("click", stop);
find("#clear").addEventListener("click", async () => {
  stop();
  await conversation.clear();
  view.hide();
  changed();
  message.focus();
});
find("#add-tool").addEventListener("click", () => tools.add());
find("#suggestions").append(...SUGGESTIONS.map((words) =>
  element("button", { type: "button", class: "quiet", on: { click: () => send(words) } }, words)));

// An image

function attach(url) {
  image = url;
  find("#attached").hidden = !url;
  if (url) find("#preview").src = url;
  else find("#preview").removeAttribute("src");
}

find("#detach").addEventListener("click", () => attach(""));
find("#image").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  target.value = "";
  if (!file) return;
  if (file.size > MOST_IMAGE_BYTES) {
    find("#notices").replaceChildren(noticeOf(new Error("The image is larger than 8 MB.")));
    return;
  }
  const reader = new FileReader();
  reader.onload = () => attach(reader.result);
  reader.readAsDataURL(file);
});

// Copy for ...

const recipe = find("#recipe");
recipe.append(...RECIPES.map(({ name }, at) => element("option", { value: at }, name)));
recipe.addEventListener("change", showRecipe);
find("#copy-recipe").addEventListener("click", ({ target }) => copy(find("#recipe-text").textContent, target));

function showRecipe() {
  const chosen = RECIPES[recipe.value];
  find("#recipe-text").textContent = chosen.text({ base: location.origin, model: model.value || "gpt-4o-mini" });
  const hint = find("#recipe-hint");
  hint.textContent = hintOf(chosen, location.hostname);
  if (chosen.guide) hint.append(hint.textContent ? " " : "", element("a", { href: `/docs/guide/${chosen.guide}` }, "The whole recipe"));
}

// The start

async function load() {
  const notices = find("#notices");
  const hint = find("#model-hint");
  let isReady = false;
  try {
    const wanted = model.value;
    const ids = await fillModels(model.select);
    model.value = wanted || firstToTalk(ids);
    hint.textContent = `${ids.length} models, grouped by who answers.`;
    const notice = await providersNotice();
    notices.replaceChildren(...(notice ? [notice] : []));
    isReady = true;
  } catch (error) {
    hint.textContent = "The models could not be loaded.";
    notices.replaceChildren(noticeOf(error));
    if (error.status === 401) find("#key").focus();
  }
  for (const id of ["#message", "#send"]) find(id).disabled = !isReady;
  find("#talk").disabled = !isReady || !canListen();
  showRecipe();
}

/** What a link of the documentation, or of another page, has filled in. */
function fillIn() {
  let given;
  try {
    given = filledIn();
  } catch (error) {
    find("#notices").replaceChildren(noticeOf(error));
  }
  if (!given) return;
  if (given.model) model.value = given.model;
  if (given.system) find("#system").value = given.system;
  if (given.words) message.value = given.words;
  if (given.temperature !== undefined) find("#temperature").value = given.temperature;
  if (given.tools.length) {
    tools.fill(given.tools);
    find("#tools-panel").open = true;
  }
}

find("#voice-hint").textContent = abilities();
find("#barge-in").disabled = !canListen();
find("#aloud").disabled = !canSpeak();
keepKey(find("#key"), load);
fillIn();
addEventListener("hashchange", fillIn);
load();
