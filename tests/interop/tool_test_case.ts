/**
 * Tests that need programs of other people.
 *
 * @module
 */

/**
 * A test that runs where the programs are installed. Where one is missing, the test is skipped, with the
 * reason beside its name; with `CI=true` in the environment it fails instead.
 *
 * @param tools names of programs, and of the Debian packages that have them
 */
export function toolTest(
  name: string,
  tools: Readonly<Record<string, string>>,
  run: (context: Deno.TestContext) => Promise<void>,
): void {
  const missing = Object.entries(tools).find(([tool]) => !isInstalled(tool));
  const reason = missing && `${missing[0]} is not installed (Debian package ${missing[1]})`;
  testUnless(reason, name, run, { failsInCi: true });
}

/** A test that is skipped for a reason, which is beside its name, or fails in CI; without a reason it runs. */
export function testUnless(
  reason: string | undefined,
  name: string,
  run: (context: Deno.TestContext) => Promise<void>,
  { failsInCi }: { readonly failsInCi: boolean },
): void {
  if (reason === undefined) return Deno.test(name, run);
  if (!failsInCi || Deno.env.get("CI") !== "true") {
    return Deno.test({ name: `${name} (skipped: ${reason})`, ignore: true, fn: run });
  }
  Deno.test(name, () => {
    throw new Error(`Cannot run the test: ${reason}`);
  });
}

/** What a program writes on both of its outputs. Ends the program after some time. */
export async function outputOf(
  program: string,
  args: readonly string[],
  timeoutMs = 30_000,
): Promise<string> {
  const signal = AbortSignal.timeout(timeoutMs);
  const { stdout, stderr } = await new Deno.Command(program, { args: [...args], signal }).output();
  const decoder = new TextDecoder();
  return decoder.decode(stdout) + decoder.decode(stderr);
}

/** Daemons are in directories that only root has in its PATH. */
function isInstalled(tool: string): boolean {
  const path = `${Deno.env.get("PATH") ?? ""}:/usr/sbin:/usr/local/sbin`;
  return path.split(":").some((directory) => {
    try {
      return Deno.statSync(`${directory}/${tool}`).isFile;
    } catch {
      return false;
    }
  });
}
