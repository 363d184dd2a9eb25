// usage: node comment.mjs SCRIPT SITUATION   runs a script of actions/github-script
// SITUATION: {run, pulls, comments}; prints what the script asked GitHub for, as JSON.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [, , file, situation] = process.argv;
const { run, pulls, comments } = JSON.parse(situation);
const calls = [];
const call = (name, data) => async (words) => {
  calls.push([name, words]);
  return { data };
};
const listComments = call("listComments", comments);
const github = {
  paginate: async (method, words) => (await method(words)).data,
  rest: {
    pulls: { list: call("pulls", pulls) },
    issues: { listComments, createComment: call("create"), updateComment: call("update") },
  },
};
const context = { payload: { workflow_run: run }, repo: { owner: "us", repo: "project" } };
const core = { info: (text) => calls.push(["info", text]) };
const AsyncFunction = (async () => {}).constructor;
const script = new AsyncFunction("github", "context", "core", "require", readFileSync(file, "utf8"));
await script(github, context, core, createRequire(import.meta.url));
console.log(JSON.stringify(calls));
