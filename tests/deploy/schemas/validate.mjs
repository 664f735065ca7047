// Checks objects of kinds that operators define against the schemas of their Go types.
// Standard input: a JSON list of objects. Standard output: a JSON list of as many lists of
// sentences, empty for what is right.
import { readFileSync } from "node:fs";

const PACKAGES = {
  "cert-manager.io": "cert-manager",
  "gateway.networking.k8s.io": "gateway-api",
  "keda.sh": "keda",
  "monitoring.coreos.com": "prometheus-operator",
};

const NO_SUCH_KIND = new Set(["ERR_MODULE_NOT_FOUND", "ERR_PACKAGE_PATH_NOT_EXPORTED"]);

// The validators leave fields alone that they do not know, as an API server does that then
// drops them. But they look at every field that they do know: what they never look at is a typo.
function watched(value, path, unseen) {
  if (value === null || typeof value !== "object") return value;
  const children = new Map();
  for (const key of Object.keys(value)) unseen.add(`${path}.${key}`);
  return new Proxy(value, {
    get(target, key) {
      if (typeof key === "symbol" || !Object.hasOwn(target, key)) return Reflect.get(target, key);
      unseen.delete(`${path}.${key}`);
      if (!children.has(key)) children.set(key, watched(target[key], `${path}.${key}`, unseen));
      return children.get(key);
    },
  });
}

async function modelOf({ apiVersion, kind }) {
  const [group, version] = `${apiVersion}`.split("/");
  if (!Object.hasOwn(PACKAGES, group)) return undefined;
  // Packages that are not there are another thing than a kind that is none.
  import.meta.resolve(`@kubernetes-models/${PACKAGES[group]}`);
  try {
    const found = await import(`@kubernetes-models/${PACKAGES[group]}/${group}/${version}/${kind}`);
    return found[kind];
  } catch (error) {
    if (NO_SUCH_KIND.has(error.code)) return undefined;
    throw error;
  }
}

async function problems(object) {
  const model = await modelOf(object);
  if (model?.kind !== object.kind || model?.apiVersion !== object.apiVersion) {
    return [`no schema of ${object.kind} in ${object.apiVersion}`];
  }
  const unseen = new Set();
  try {
    model.prototype.validate.call(watched(object, "", unseen));
  } catch (error) {
    if (error.name !== "ValidationError" && !Array.isArray(error.errors)) throw error;
    return [error.message];
  }
  return [...unseen].map((path) => `${path} is no field`);
}

const objects = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(await Promise.all(objects.map(problems))));
