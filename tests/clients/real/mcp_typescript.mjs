// The official TypeScript SDK: does what the plan in its first argument says, and tells what came of it as JSON.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ToolListChangedNotificationSchema } from "@modelcontextprotocol/sdk/types.js";

const plan = JSON.parse(process.argv[2]);
const text = (result) => result.content.filter((part) => part.type === "text").map((part) => part.text).join("\n");

async function session(token, play) {
  const client = new Client({ name: "suite", version: "1" });
  const headers = { Authorization: `Bearer ${token}` };
  const transport = new StreamableHTTPClientTransport(new URL(plan.url), { requestInit: { headers } });
  try {
    await client.connect(transport);
    return await play(client, transport);
  } finally {
    await client.close();
  }
}

const told = await session(plan.token, async (client, transport) => {
  const told = { revision: transport.protocolVersion, calls: {} };
  told.tools = (await client.listTools()).tools.map((tool) => tool.name);
  for (const [name, call] of Object.entries(plan.calls)) {
    const result = await client.callTool({ name: call.tool, arguments: call.arguments });
    told.calls[name] = { error: Boolean(result.isError), text: text(result) };
  }
  const steps = [];
  const onprogress = ({ progress, total, message }) => steps.push([progress, total, message]);
  const call = plan.progress;
  const result = await client.callTool({ name: call.tool, arguments: call.arguments }, undefined, { onprogress });
  told.progress = { steps, text: text(result) };
  told.resources = (await client.listResources()).resources.map((resource) => resource.uri);
  told.prompts = (await client.listPrompts()).prompts.map((prompt) => prompt.name);
  // Its stream stands since the handshake; a change is told again until it is heard.
  const changed = new Promise((heard) => client.setNotificationHandler(ToolListChangedNotificationSchema, () => heard(true)));
  let number = 0;
  const change = () => client.callTool({ name: plan.change.tool, arguments: { ...plan.change.arguments, tool: `new${(number += 1)}` } });
  const again = setInterval(() => change().catch(() => {}), 1000);
  await change();
  told.changed = await changed;
  clearInterval(again);
  return told;
});
told.refused = await session("no token of anybody", async () => null).catch((error) => String(error));
console.log(JSON.stringify(told));
