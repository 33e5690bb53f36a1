"use strict";
// What a person does here, Airflow's own API is asked for: it knows who asks, allows it or not, and keeps a record.
const airflow = document.currentScript.src.replace(/\/reindex\/acts\.js.*$/, "");
const say = (text) => { document.querySelector("output").textContent = text; };

async function ask(method, path, body) {
  const answer = await fetch(`${airflow}/api/v2/${path}`, {
    method,
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  const content = await answer.json();
  if (!answer.ok) {
    const detail = typeof content.detail === "string" ? content.detail : JSON.stringify(content.detail);
    throw new Error(`Airflow refused it (${answer.status}): ${detail}`);
  }
  return content;
}

// An empty field asks for nothing: the run then takes the default.
function asked(fields) {
  const kinds = { checkbox: (field) => field.checked, number: (field) => Number(field.value) };
  const given = [...fields].filter((field) => field.name && (field.type === "checkbox" || field.value !== ""));
  return Object.fromEntries(given.map((field) => [field.name, (kinds[field.type] || (() => field.value))(field)]));
}

async function start(form) {
  const run = await ask("POST", `dags/${form.dataset.dag}/dagRuns`, { logical_date: null, conf: asked(form.elements) });
  return `Run ${run.dag_run_id} is ${run.state}. This page shows its release when it is loaded again.`;
}

async function rollBack(form) {
  const { corpus } = form.dataset;
  if (form.elements.confirm.value !== corpus) {
    return `Nothing was done: type ${corpus} to confirm.`;
  }
  const conf = { corpus, release: form.elements.release.value || null };
  const run = await ask("POST", "dags/reindex_roll_back/dagRuns", { logical_date: null, conf });
  return `Going back: run ${run.dag_run_id}. This page shows it when it is loaded again.`;
}

async function answerQuestion(form, button) {
  const { dag, run } = form.dataset;
  const task = `dags/${dag}/dagRuns/${encodeURIComponent(run)}/taskInstances/approve/-1`;
  const given = await ask("PATCH", `${task}/hitlDetails`, { chosen_options: [button.value], params_input: {} });
  return `${given.chosen_options[0]}: recorded as the answer of ${given.responded_by.name}.`;
}

const acts = { run: start, "roll-back": rollBack, answer: answerQuestion };
for (const form of document.querySelectorAll("form[data-act]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const buttons = form.querySelectorAll("button");
    buttons.forEach((button) => { button.disabled = true; });
    try {
      say(await acts[form.dataset.act](form, event.submitter));
    } catch (error) {
      say(error.message);
    } finally {
      buttons.forEach((button) => { button.disabled = false; });
    }
  });
}
