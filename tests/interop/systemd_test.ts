/**
 * The unit of `deploy/` as systemd runs it: a systemd of its own in a container, on a copy of this machine's files that
 * is thrown away, with the command as npm installs it.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { stageNpmPackage } from "../../deps/staging.ts";
import { testUnless } from "./tool_test_case.ts";

const DEPLOY = new URL("../../deploy/", import.meta.url);

const TOOLS: readonly [program: string, debianPackage: string][] = [
  ["systemd-nspawn", "systemd-container"],
  ["unshare", "util-linux"],
  ["nsenter", "util-linux"],
  ["curl", "curl"],
  ["adduser", "adduser"],
];

testUnless(
  reasonToSkip(),
  "systemd runs the unit in its sandbox: on port 443, up again after a crash, and TERM drains it",
  async () => {
    const facts = await runUnit();
    assertEquals(facts.health, "ok");
    assertMatch(facts.metrics!, /punchline_connections/);
    // A user of its own, which may bind port 443 and nothing else, and can gain nothing.
    assertMatch(facts.user!, /^punchline$/);
    assertEquals(facts.capabilities, "0000000000000400"); // CAP_NET_BIND_SERVICE
    assertEquals(facts.noNewPrivileges, "1");
    assertEquals(facts.seccomp, "2"); // with a filter
    assertEquals(facts.openFiles, "8192");
    // What it sees of the machine.
    assertMatch(facts.writeUsr!, /Read-only file system/);
    assertMatch(facts.writeEtc!, /Read-only file system/);
    assertEquals(facts.home, "");
    assertEquals(facts.devices!.split(" ").includes("kmsg"), false);
    // A crash.
    assertEquals([facts.afterCrash, facts.restarts], ["ok", "1"]);
    // TERM reaches it once, and it gives the client of the relay the time of `drain`.
    assertEquals([facts.result, facts.status], ["success", "143"]);
    assert(Number(facts.stopMs) >= 900, `it stopped after ${facts.stopMs} ms`);
    assertMatch(facts.journal!, /Stopping: no new connections/);
    assertMatch(facts.journal!, /Stopped/);
  },
  { failsInCi: true },
);

/** What a shell in the container has found out, by name. */
async function runUnit(): Promise<Readonly<Record<string, string>>> {
  const folder = await Deno.makeTempDir({ prefix: "unit-" });
  try {
    await stageFiles(`${folder}/stage`);
    await Deno.writeTextFile(`${folder}/container.sh`, CONTAINER);
    const { stdout, stderr } = await new Deno.Command("unshare", {
      args: [
        ...["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"],
        ...["bash", `${folder}/container.sh`, folder],
      ],
      stdin: "null",
      signal: AbortSignal.timeout(60_000),
    }).output();
    const [text, errors] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
    const facts = Object.fromEntries(
      [...text!.matchAll(/^== (\w+)\n([^]*?)(?=^== |(?![^]))/gm)]
        .map(([, name, value]) => [name, value!.trim()]),
    );
    assert("journal" in facts, `the container has said:\n${text}\n${errors}`);
    return facts;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** What is laid over this machine's files. */
async function stageFiles(stage: string): Promise<void> {
  const modules = `${stage}/usr/local/lib/node_modules/punchline`;
  const units = `${stage}/etc/systemd/system`;
  const deno = `${modules}/node_modules/deno`;
  for (const each of [units, deno, `${stage}/usr/local/bin`, `${stage}/etc/punchline`]) {
    await Deno.mkdir(each, { recursive: true });
  }
  await stageNpmPackage(modules);
  await Deno.chmod(`${modules}/punchline.cjs`, 0o755);
  await Deno.symlink(
    "../lib/node_modules/punchline/punchline.cjs",
    `${stage}/usr/local/bin/punchline`,
  );
  await Deno.copyFile(Deno.execPath(), `${deno}/deno`);
  await Deno.writeTextFile(`${deno}/package.json`, `{ "name": "deno", "version": "0.0.0" }`);
  await Deno.copyFile(new URL("punchline.service", DEPLOY), `${units}/punchline.service`);
  const config = JSON.parse(await Deno.readTextFile(new URL("config.json", DEPLOY)));
  const here = { address: "127.0.0.1", "rendezvous-port": 443, drain: "1s" };
  await Deno.writeTextFile(
    `${stage}/etc/punchline/config.json`,
    JSON.stringify({ ...config, ...here }),
  );
  await Deno.writeTextFile(
    `${units}/check.service`,
    [
      ...["[Unit]", "After=punchline.service", "[Service]", "Type=oneshot"],
      ...["ExecStart=/bin/bash /check.sh", "StandardOutput=file:/facts"],
      ...["TimeoutStartSec=40", "ExecStopPost=/bin/systemctl --no-block exit 7", ""],
    ].join("\n"),
  );
  await Deno.writeTextFile(
    `${units}/check.target`,
    "[Unit]\nRequires=punchline.service check.service\nAfter=check.service\n",
  );
  await Deno.writeTextFile(`${stage}/check.sh`, CHECK);
}

/** Runs outside of the container, in namespaces of its own: what it mounts and starts goes away with it. */
const CONTAINER = `set -e
mount -t tmpfs tmpfs /run
mkdir "$1/top"
mount -t tmpfs tmpfs "$1/top"
mkdir "$1/top/upper" "$1/top/work" "$1/top/root"
root="$1/top/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/top/upper,workdir=$1/top/work" "$root"
cp --archive "$1/stage/." "$root"
chroot "$root" adduser --quiet --system --group --no-create-home punchline
systemd-nspawn --quiet --directory="$root" --boot --private-network --register=no --keep-unit --settings=no \\
  --link-journal=no --console=pipe systemd.unit=check.target </dev/null || true
cat "$root/facts"
`;

/** Runs in the container, beside the unit. */
const CHECK = `
fact() { echo "== $1"; shift; "$@" 2>&1; echo; }
of() { systemctl show --value --property "$1" punchline; }
healthy() {
  for i in $(seq 150); do
    curl --silent --fail http://127.0.0.1:443/healthz && return
    sleep 0.1
  done
  echo "not healthy"
}
fact health healthy
fact metrics curl --silent http://127.0.0.1:9478/metrics
pid=$(pgrep --uid punchline --exact deno)
status() { sed -n "s/^$1:[[:space:]]*//p" /proc/$pid/status; }
fact user stat --format=%U /proc/$pid
fact capabilities status CapEff
fact noNewPrivileges status NoNewPrivs
fact seccomp status Seccomp
fact openFiles awk '/^Max open files/ { print $4 }' /proc/$pid/limits
inside() { nsenter --target $pid --mount "$@"; }
fact writeUsr inside touch /usr/local/bin/x
fact writeEtc inside touch /etc/punchline/config.json
fact home inside sh -c 'echo $(ls -A /root) $(ls -A /home)'
fact devices inside sh -c 'echo $(ls /dev)'

kill -KILL $(of MainPID)
sleep 0.5
fact afterCrash healthy
fact restarts of NRestarts

curl --silent --no-buffer --max-time 20 --header 'Connection: Upgrade' --header 'Upgrade: websocket' \\
  --header 'Sec-WebSocket-Version: 13' --header 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==' \\
  http://127.0.0.1:443/relay/1 >/dev/null &
sleep 0.5
began=$(date +%s%3N)
systemctl stop punchline
fact stopMs echo $(($(date +%s%3N) - began))
fact result of Result
fact status of ExecMainStatus
fact journal journalctl --no-pager --output=cat --unit punchline
`;

function reasonToSkip(): string | undefined {
  if (Deno.build.os !== "linux") return "it needs Linux";
  if (Deno.uid() !== 0) return "it needs root, for a container";
  const missing = TOOLS.find(([program]) =>
    !["/usr/sbin", "/usr/bin", "/bin", "/sbin"].some((folder) => exists(`${folder}/${program}`))
  );
  return missing && `${missing[0]} is not installed (Debian package ${missing[1]})`;
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    return false;
  }
}
