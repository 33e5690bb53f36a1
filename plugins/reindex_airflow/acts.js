"use strict";
// What a person does here, Airflow's own API is asked for: it knows who asks, allows it or not, and keeps a record.
const airflow = document.currentScript.src.replace(/\/reindex\/acts\.js.*$/, "");
const say = (text) => { document.querySelector("output").textContent = text; };

async function trigger(dag, conf) {
  const answer = await fetch(`${airflow}/api/v2/dags/${dag}/dagRuns`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ logical_date: null, conf }),
  });
  const content = await answer.json();
  if (!answer.ok) {
    const detail = typeof content.detail === "string" ? content.detail : JSON.stringify(content.detail);
    throw new Error(`Airflow refused it (${answer.status}): ${detail}`);
  }
  return content.dag_run_id;
}

for (const form of document.querySelectorAll("form[data-act='roll-back']")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { corpus } = form.dataset;
    if (form.elements.confirm.value !== corpus) {
      say(`Nothing was done: type ${corpus} to confirm.`);
      return;
    }
    form.querySelector("button").disabled = true;
    try {
      const run = await trigger("reindex_roll_back", { corpus, release: form.elements.release.value || null });
      say(`Going back: run ${run}. This page shows it when it is loaded again.`);
    } catch (error) {
      say(error.message);
    } finally {
      form.querySelector("button").disabled = false;
    }
  });
}
