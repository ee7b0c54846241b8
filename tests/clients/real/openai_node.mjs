// The `openai` package for Node on chat completions. What it does and tells is report.py's.

import OpenAI from 'openai';

const MOST = 200;
const asked = (text) => [{ role: 'user', content: text }];
const say = (check, facts) => console.log(JSON.stringify({ check, ...facts }));

async function chat() {
  const answer = await new OpenAI().chat.completions.create({ model: 'm1', messages: asked('Say hello.') });
  return answer.choices[0].message.content;
}

async function stream() {
  const pieces = [];
  for await (const chunk of await new OpenAI().chat.completions.create({ model: 'm1', messages: asked('Say hello.'), stream: true })) {
    // As most programs do it: a chunk without choices would break them.
    if (chunk.choices[0].delta.content) pieces.push(chunk.choices[0].delta.content);
  }
  return pieces;
}

async function tool() {
  const called = [];
  const weather = {
    name: 'weather',
    description: 'The weather of a city.',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
    parse: JSON.parse,
    function: (args) => {
      called.push(args);
      return 'sunny';
    },
  };
  const runner = new OpenAI().chat.completions.runTools({
    model: 'm1',
    messages: asked('What is the weather?'),
    tools: [{ type: 'function', function: weather }],
  });
  return { called, text: await runner.finalContent() };
}

const hello = (patient) =>
  new OpenAI(patient ? {} : { maxRetries: 0 }).chat.completions.create({ model: 'm1', messages: asked('Say hello.') });

function classes(error) {
  const names = [];
  for (let kind = error.constructor; kind && kind.name; kind = Object.getPrototypeOf(kind)) names.push(kind.name);
  return names;
}

async function denied(patient) {
  try {
    await hello(patient);
  } catch (error) {
    return { classes: classes(error), status: error.status ?? null, message: error.message };
  }
  return undefined;
}

async function budget() {
  for (let answered = 0; answered < MOST; answered += 1) {
    const fault = await denied(true);
    if (fault) return say('denied', { answered, ...fault });
  }
  throw new Error(`${MOST} calls, and no denial`);
}

switch (process.argv[2]) {
  case 'works':
    say('chat', { text: await chat() });
    say('stream', { pieces: await stream() });
    say('tool', await tool());
    break;
  case 'budget':
    await budget();
    break;
  case 'rate':
    await hello(true);
    say('denied', await denied(false));
    await hello(true);
    say('waited');
    break;
  default:
    throw new Error(`unknown scenario ${process.argv[2]}`);
}
