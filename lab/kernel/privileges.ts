/**
 * Making network namespaces takes rights, which come from being root or from a user namespace; and what may
 * keep a machine from giving them.
 *
 * @module
 */

/**
 * A command that runs another one where it may make network namespaces, leave its own and return to it.
 *
 * @param command what to run
 */
export function privilegedCommand(command: readonly string[]): readonly string[] {
  // Returning takes rights over the own network namespace too: hence one of its own.
  return isRoot() ? command : ["unshare", "--user", "--map-root-user", "--net", "--", ...command];
}

/**
 * A command that runs the command which follows it in a network namespace that another process holds. What it
 * runs has its process id, and ends with the process that started it.
 *
 * @param pid the process
 * @param descriptor of the namespace, in that process
 */
export function enterCommand(pid: number, descriptor: number): readonly string[] {
  const user = isRoot() ? [] : [`--user=/proc/${pid}/ns/user`, "--preserve-credentials"];
  const network = `--net=/proc/${pid}/fd/${descriptor}`;
  return ["nsenter", ...user, network, "--", "setpriv", "--pdeathsig", "KILL", "--"];
}

/** Whether this machine can run the lab, and if not, why. */
export type LabSupport =
  | { readonly supported: true }
  | { readonly supported: false; readonly reason: string };

/**
 * Tells whether this machine can run the lab. Takes some milliseconds and changes nothing.
 *
 * @param programs what has to be installed besides
 */
export function labSupport(programs: readonly string[] = []): LabSupport {
  const reason = missing(programs);
  return reason === undefined ? { supported: true } : { supported: false, reason };
}

function missing(programs: readonly string[]): string | undefined {
  if (Deno.build.os !== "linux") return `it takes Linux, not ${Deno.build.os}`;
  try {
    const absent = ["unshare", "nsenter", "setpriv", ...programs].filter((name) =>
      !isInstalled(name)
    );
    if (absent.length > 0) return `it takes ${absent.join(", ")}`;
    const [command, ...args] = privilegedCommand(["unshare", "--net", "--", "true"]);
    const { success, stderr } = new Deno.Command(command!, { args, stdout: "null" }).outputSync();
    if (!success) return new TextDecoder().decode(stderr).trim();
    Deno.openSync("/dev/net/tun", { read: true, write: true }).close();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function isInstalled(program: string): boolean {
  const folders = (Deno.env.get("PATH") ?? "").split(":");
  return folders.some((folder) => {
    try {
      return Deno.statSync(`${folder}/${program}`).isFile;
    } catch {
      return false;
    }
  });
}

function isRoot(): boolean {
  return Deno.uid() === 0;
}
