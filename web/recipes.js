// Settings to copy, with this page's address and the chosen model. The pages of docs/clients explain them.

const PHONE = "You are on the phone. Answer in one or two sentences.";
const json = (value) => JSON.stringify(value, null, 2);

export const RECIPES = [
  {
    name: "Deepgram Voice Agent", guide: "clients/deepgram", public: true,
    text: ({ base, model }) => json({ think: {
      provider: { type: "open_ai", model },
      endpoint: { url: `${base}/v1/chat/completions`, headers: { authorization: "Bearer YOUR-KEY" } },
      prompt: PHONE,
    } }),
  },
  {
    name: "Vapi", guide: "clients/vapi", public: true, hint: "YOUR-KEY goes into a credential of the kind custom-llm.",
    text: ({ base, model }) => json({ model: { provider: "custom-llm", url: `${base}/v1`, model, messages: [{ role: "system", content: PHONE }] } }),
  },
  {
    name: "ElevenLabs Agents", guide: "clients/elevenlabs", public: true, hint: "In the agent's settings, choose Custom LLM.",
    text: ({ base, model }) => `Server URL  ${base}/v1\nModel ID    ${model}\nAPI key     a secret that holds YOUR-KEY`,
  },
  {
    name: "LiveKit Agents", guide: "clients/livekit",
    text: ({ base, model }) => `from livekit.plugins import openai\n\nllm = openai.LLM(model=${JSON.stringify(model)}, base_url="${base}/v1", api_key="YOUR-KEY")`,
  },
  {
    name: "Pipecat", guide: "clients/pipecat",
    text: ({ base, model }) => `from pipecat.services.openai.llm import OpenAILLMService\n\nllm = OpenAILLMService(\n    base_url="${base}/v1",\n    api_key="YOUR-KEY",\n    settings=OpenAILLMService.Settings(model=${JSON.stringify(model)}),\n)`,
  },
  {
    name: "Retell", guide: "clients/retell", public: true, hint: "In the agent's settings, choose Custom LLM. Retell can send no header: the key is in the path.",
    text: ({ base, model }) => `${base.replace(/^http/, "ws")}/k/YOUR-KEY/v1/retell?model=${encodeURIComponent(model)}`,
  },
  {
    name: "Twilio ConversationRelay", guide: "clients/twilio", public: true, hint: "TwiML. Set TWILIO_AUTH_TOKEN here: it proves that Twilio calls.",
    text: ({ base, model }) => `<Response>\n  <Connect>\n    <ConversationRelay url="${escaped(`${base.replace(/^http/, "ws")}/v1/conversation-relay?model=${encodeURIComponent(model)}`)}" dtmfDetection="true" applicationReconnect="true" />\n  </Connect>\n</Response>`,
  },
  {
    name: "The OpenAI client", guide: "clients/openai",
    text: ({ base, model }) => `from openai import OpenAI\n\nclient = OpenAI(base_url="${base}/v1", api_key="YOUR-KEY")\nstream = client.chat.completions.create(\n    model=${JSON.stringify(model)},\n    messages=[{"role": "user", "content": "Good morning."}],\n    stream=True,\n)\nfor chunk in stream:\n    print(chunk.choices[0].delta.content or "", end="")`,
  },
  {
    name: "curl",
    text: ({ base, model }) => `curl -N ${quoted(`${base}/v1/chat/completions`)} \\\n  -H 'Authorization: Bearer YOUR-KEY' \\\n  -H 'Content-Type: application/json' \\\n  -d ${quoted(JSON.stringify({ model, stream: true, messages: [{ role: "user", content: "Good morning." }] }))}`,
  },
];

/** What stands beside a recipe. */
export function hintOf(recipe, hostname) {
  const isHere = ["localhost", "127.0.0.1", "[::1]"].includes(hostname);
  const reach = recipe.public && isHere ? "This page's address is this machine's own: a hosted platform needs a public one." : "";
  return [recipe.hint, reach].filter(Boolean).join(" ");
}

const quoted = (text) => `'${text.replaceAll("'", String.raw`'\''`)}'`;
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll('"', "&quot;").replaceAll("<", "&lt;");
