// The OpenAPI schema as a page: routes, their fields, an example to paste into a terminal.

const EXAMPLES = {
  "POST /v1/search": { text: "how do I cancel my order", k: 5 },
  "POST /v1/embed": { text: ["a text", "another"] },
  "POST /v1/predict": { text: "a text" },
  "POST /v1/embeddings": { model: "MODEL", input: "a text" },
  "POST /embed": { inputs: ["a text", "another"] },
};

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function plain(text) {
  return (text ?? "").replaceAll("`", "");
}

function resolved(schema, all) {
  return schema.$ref ? all[schema.$ref.split("/").at(-1)] : schema;
}

function typeOf(schema, all) {
  const of = resolved(schema, all);
  if (of.anyOf) return [...new Set(of.anyOf.map((one) => typeOf(one, all)).filter((one) => one !== "null"))].join(" or ");
  if (of.type === "array") return `list of ${typeOf(of.items ?? {}, all)}`;
  return of.enum?.join(" or ") ?? of.const ?? of.type ?? "any";
}

function table(rows) {
  return element("table", {}, ...rows.map((row) => element("tr", {}, ...row.map((cell) => element("td", { textContent: cell })))));
}

function fields(schema, all) {
  return Object.entries(resolved(schema, all).properties ?? {}).map(([name, one]) => [
    name, typeOf(one, all), one.default === undefined || one.default === null ? "" : `default ${one.default}`, plain(one.description),
  ]);
}

function route(path, method, operation, all) {
  const name = `${method.toUpperCase()} ${path}`;
  const made = element("details", { className: "route" });
  made.append(element("summary", {}, element("b", { textContent: method.toUpperCase() }), element("code", { textContent: path }),
    element("span", { className: "quiet", textContent: plain(operation.description) })));
  for (const [kind, content] of Object.entries(operation.requestBody?.content ?? {})) {
    made.append(element("p", { className: "quiet", textContent: kind }), table(fields(content.schema, all)));
  }
  if (operation.parameters) {
    made.append(element("p", { className: "quiet", textContent: "query" }),
      table(operation.parameters.map((one) => [one.name, typeOf(one.schema, all), one.required ? "required" : "", plain(one.description)])));
  }
  if (EXAMPLES[name]) {
    const body = JSON.stringify(EXAMPLES[name]);
    made.append(element("pre", { textContent: `curl ${location.origin}${path} -H 'Content-Type: application/json' \\\n  -d '${body}'` }));
  }
  const answers = Object.entries(operation.responses).map(([status, one]) => [status, one.description]);
  made.append(table(answers));
  return made;
}

const schema = await (await fetch("/openapi.json")).json();
document.getElementById("about").textContent = `${schema.info.title} ${schema.info.version}`;
document.getElementById("routes").append(
  element("p", { className: "quiet", textContent: plain(schema.info.description) }),
  ...Object.entries(schema.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => route(path, method, operation, schema.components.schemas))),
);
