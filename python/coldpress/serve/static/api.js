// Requests to the server that this page came from; asks for an API key when the server does.

const dialog = document.getElementById("key");

function headers(more = {}) {
  const key = sessionStorage.getItem("api-key");
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

async function askForKey() {
  dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  sessionStorage.setItem("api-key", document.getElementById("key-value").value.trim());
}

// The answer of a route; an error has the words of the server.
export async function call(path, options = {}) {
  let answer = await fetch(path, { ...options, headers: headers(options.headers) });
  if (answer.status === 401) {
    await askForKey();
    answer = await fetch(path, { ...options, headers: headers(options.headers) });
  }
  if (!answer.ok) {
    const body = await answer.json().catch(() => null);
    throw new Error(body?.error?.message ?? `the server answered ${answer.status}`);
  }
  return answer;
}

export async function post(path, body) {
  const json = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return call(path, body instanceof FormData ? { method: "POST", body } : json);
}
