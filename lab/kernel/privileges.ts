/**
 * Privileges: creating network namespaces requires root or a user namespace. Also checks whether this machine can
 * run the lab.
 *
 * @module
 */

/**
 * Wraps a command so that it may create network namespaces, leave its own and return to it.
 *
 * @param command the command to run
 */
export function privilegedCommand(command: readonly string[]): readonly string[] {
  // Returning requires privileges over the original network namespace as well, so the command gets a new one.
  return isRoot() ? command : ["unshare", "--user", "--map-root-user", "--net", "--", ...command];
}

/**
 * A command prefix that runs the rest of the command in a network namespace that another process holds. The command
 * keeps the prefix's process ID, and ends with the process that started it.
 *
 * @param pid the process
 * @param descriptor the file descriptor of the namespace in that process
 */
export function enterCommand(pid: number, descriptor: number): readonly string[] {
  const user = isRoot() ? [] : [`--user=/proc/${pid}/ns/user`, "--preserve-credentials"];
  const network = `--net=/proc/${pid}/fd/${descriptor}`;
  return ["nsenter", ...user, network, "--", "setpriv", "--pdeathsig", "KILL", "--"];
}

/** Whether this machine can run the lab, and if not, why not. */
export type LabSupport =
  | { readonly supported: true }
  | { readonly supported: false; readonly reason: string };

/**
 * Checks whether this machine can run the lab. Takes some milliseconds and changes nothing.
 *
 * @param programs other programs that must be installed
 */
export function labSupport(programs: readonly string[] = []): LabSupport {
  const reason = missing(programs);
  return reason === undefined ? { supported: true } : { supported: false, reason };
}

function missing(programs: readonly string[]): string | undefined {
  if (Deno.build.os !== "linux") return `it needs Linux, not ${Deno.build.os}`;
  try {
    const absent = ["unshare", "nsenter", "setpriv", ...programs].filter((name) =>
      !isInstalled(name)
    );
    if (absent.length > 0) return `it needs ${absent.join(", ")}`;
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
