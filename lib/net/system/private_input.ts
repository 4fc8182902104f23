/**
 * Secrets from files and from the environment. Never prompts for a permission.
 *
 * @module
 */

/** A small file. */
export interface SmallFile {
  readonly text: string;
  /** The permission bits and the type; `null` if the system does not have them. */
  readonly mode: number | null;
}

/** How to read a small file. */
export interface SmallFileOptions {
  /** Whether it may be something else than a file, such as a pipe, whose writer may never come. Default: false. */
  readonly mayBePipe?: boolean;
}

/**
 * Reads a small text file. No more than one byte more than allowed is read, whatever the path names.
 *
 * @throws {RangeError} if there is more
 * @throws {TypeError} if it is something else than a file
 * @throws {Deno.errors.NotCapable} if the permission to read it was not granted
 * @throws an error of Deno's if it cannot be read
 */
export async function readSmallFile(
  path: string,
  maxBytes: number,
  { mayBePipe = false }: SmallFileOptions = {},
): Promise<SmallFile> {
  const { state } = await Deno.permissions.query({ name: "read", path });
  if (state !== "granted") {
    throw new Deno.errors.NotCapable(`Cannot read ${path}: --allow-read is not granted for it`);
  }
  if (!mayBePipe) {
    const { isFile } = await Deno.stat(path); // opening a pipe would wait for its writer
    if (!isFile) throw new TypeError(`Cannot use ${path}: it is not a file`);
  }
  using file = await Deno.open(path, { read: true });
  const { mode, size } = await file.stat();
  const tooLarge = new RangeError(`Cannot use ${path}: it is larger than ${maxBytes} bytes`);
  if (size > maxBytes) throw tooLarge;
  const bytes = new Uint8Array(maxBytes + 1);
  let length = 0;
  for (;;) {
    const count = await file.read(bytes.subarray(length));
    if (count === null) break;
    length += count;
    if (length > maxBytes) throw tooLarge;
  }
  return { text: new TextDecoder().decode(bytes.subarray(0, length)), mode };
}

/** A variable of the environment; `undefined` if it is empty or not set, or reading it is not permitted. */
export async function readVariable(name: string): Promise<string | undefined> {
  const { state } = await Deno.permissions.query({ name: "env", variable: name });
  return state === "granted" ? Deno.env.get(name) || undefined : undefined;
}

/** The proxy that other programs read, too, and the variable that names it. `NO_PROXY=*` turns it off. */
export async function readProxyVariable(): Promise<{ what: string; url: string } | undefined> {
  const noProxy = await readVariable("NO_PROXY") ?? await readVariable("no_proxy");
  if (noProxy?.trim() === "*") return undefined;
  const secure = await readVariable("HTTPS_PROXY") ?? await readVariable("https_proxy");
  if (secure !== undefined) return { what: "HTTPS_PROXY", url: secure };
  const all = await readVariable("ALL_PROXY") ?? await readVariable("all_proxy");
  return all === undefined ? undefined : { what: "ALL_PROXY", url: all };
}
