/**
 * Stand-ins for JSR and npm on this machine, which serve what would be published.
 *
 * @module
 */

import { type JsrConfig, stageJsrPackage, stageNpmPackage } from "../../deps/staging.ts";

/** A registry on this machine. */
export interface Registry extends AsyncDisposable {
  /** Where its clients find it. */
  readonly url: string;
}

/** Serves the package as JSR does, and the stand-ins for `@std` beside it; `JSR_URL` names it to Deno. */
export async function serveJsr(): Promise<Registry> {
  const folder = await Deno.makeTempDir({ prefix: "punchline-jsr-" });
  const published = await stageJsrPackage(folder);
  const packages = [
    await readPackage(folder, published),
    ...await Promise.all(["async", "cli"].map(async (name) => {
      const standIn = new URL(`../../deps/std/${name}`, import.meta.url).pathname;
      const config = JSON.parse(await Deno.readTextFile(`${standIn}/deno.json`));
      return await readPackage(standIn, { imports: {}, ...config });
    })),
  ];
  const files = new Map(packages.flatMap((each) => [...each]));
  return serve((path) => {
    const file = files.get(path);
    return file === undefined
      ? new Response("not found", { status: 404 })
      : new Response(file as Uint8Array<ArrayBuffer>, {
        headers: { "content-type": typeOf(path) },
      });
  }, folder);
}

/** Serves the package as npm does, and sends clients to the real registry for all others. */
export async function serveNpm(): Promise<Registry> {
  const folder = await Deno.makeTempDir({ prefix: "punchline-npm-" });
  await Deno.mkdir(`${folder}/package`);
  await stageNpmPackage(`${folder}/package`);
  const { success, stdout } = await new Deno.Command("npm", {
    args: ["pack", "--silent", "--pack-destination", folder],
    cwd: `${folder}/package`,
  }).output();
  if (!success) throw new Error("Cannot pack the package for npm");
  const name = new TextDecoder().decode(stdout).trim();
  const tarball = await Deno.readFile(`${folder}/${name}`);
  const manifest = JSON.parse(await Deno.readTextFile(`${folder}/package/package.json`));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-512", tarball)).toBase64();
  const registry = await configuredRegistry();
  return serve((path, url) => {
    if (path === `/${name}`) return new Response(tarball);
    if (path !== "/punchline") return Response.redirect(`${registry}${path}`, 307);
    const dist = { tarball: `${url}/${name}`, integrity: `sha512-${digest}` };
    return Response.json({
      name: "punchline",
      "dist-tags": { latest: manifest.version },
      versions: { [manifest.version]: { ...manifest, dist } },
    });
  }, folder);
}

/** What of the environment leads to the registries: proxies and certificates, but nothing of an npx around the tests. */
export function registryVariables(): Record<string, string> {
  const names = /^(?!npm_(?!config_)|JSR_URL$|DENO_DIR$|DENO_INSTALL_ROOT$|PUNCHLINE_|XDG_)/;
  return Object.fromEntries(
    Object.entries(Deno.env.toObject()).filter(([name]) => names.test(name)),
  );
}

/** The files of one package by their paths at JSR, with the specifiers as JSR's client rewrites them. */
async function readPackage(folder: string, config: JsrConfig): Promise<Map<string, Uint8Array>> {
  const { name, version, exports } = config;
  const files = new Map<string, Uint8Array>();
  const manifest: Record<string, { size: number; checksum: string }> = {};
  for await (const path of filesIn(folder)) {
    const bytes = /\.tsx?$/.test(path)
      ? new TextEncoder().encode(unfurled(await Deno.readTextFile(`${folder}/${path}`), config))
      : await Deno.readFile(`${folder}/${path}`);
    files.set(`/${name}/${version}/${path}`, bytes);
    const digest = await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>);
    manifest[`/${path}`] = {
      size: bytes.length,
      checksum: `sha256-${new Uint8Array(digest).toHex()}`,
    };
  }
  const asJson = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
  files.set(`/${name}/${version}_meta.json`, asJson({ manifest, exports }));
  const [, scope, short] = /^@([^/]+)\/(.*)$/.exec(name)!;
  files.set(
    `/${name}/meta.json`,
    asJson({ scope, name: short, latest: version, versions: { [version]: {} } }),
  );
  return files;
}

/** Replaces the names of the import map by what they stand for, as `deno publish` does. */
function unfurled(text: string, { imports }: JsrConfig): string {
  return text.replaceAll(/(\bfrom |\bimport\(|^import )"([^"./][^"]*)"/gm, (all, before, name) => {
    const found = Object.entries(imports).find(([key]) =>
      name === key || name.startsWith(`${key}/`)
    );
    return found === undefined ? all : `${before}"${found[1]}${name.slice(found[0].length)}"`;
  });
}

async function* filesIn(folder: string, below = ""): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(`${folder}/${below}`)) {
    if (isDirectory) yield* filesIn(folder, `${below}${name}/`);
    else yield `${below}${name}`;
  }
}

function serve(answer: (path: string, url: string) => Response, folder: string): Registry {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    const { pathname, origin } = new URL(request.url);
    return answer(decodeURIComponent(pathname), origin);
  });
  return {
    url: `http://127.0.0.1:${server.addr.port}/`,
    async [Symbol.asyncDispose]() {
      await server.shutdown();
      await Deno.remove(folder, { recursive: true });
    },
  };
}

function typeOf(path: string): string {
  if (path.endsWith(".json")) return "application/json";
  return /\.tsx?$/.test(path) ? "text/typescript" : "text/plain";
}

/** The registry that npm on this machine is set up for. */
async function configuredRegistry(): Promise<string> {
  const { stdout } = await new Deno.Command("npm", { args: ["config", "get", "registry"] })
    .output();
  return new TextDecoder().decode(stdout).trim().replace(/\/$/, "");
}
