/**
 * Wrong command lines: one line that says what is wrong, a second one only where there is something to do, the right exit
 * code, nothing on stdout, and never a stack trace.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { encodeTicket } from "../../lib/peer/ticket.ts";
import { runMain } from "./run_main.ts";

const IDENTITY = { publicKey: new Uint8Array(32).fill(9), secret: new Uint8Array(16) };
const TICKET = encodeTicket({ ...IDENTITY, signaling: ["lan:"] });
const BY_HAND = encodeTicket({ ...IDENTITY, signaling: ["hand:"] });

/** The command line, its exit code, the line behind `punchline: `, and the remedy if there is one. */
const WRONG: readonly (readonly [string[], number, string, string?])[] = [
  [["frobnicate"], 2, 'unknown command "frobnicate"', "`punchline help` lists them"],
  [["lsiten"], 2, 'unknown command "lsiten"; did you mean listen?'],
  [["Listen"], 2, 'unknown command "Listen"; did you mean listen?'],
  [
    ["--listen"],
    2,
    "unknown option --listen",
    "The command comes first; `punchline help` lists them",
  ],
  [["--verison"], 2, "unknown option --verison; did you mean --version?"],
  [
    ["punchline:AAAA"],
    2,
    "a ticket is not a command",
    "Use `punchline connect` with a ticket of listen, `punchline recv` with one of send",
  ],
  [["help", "lsiten"], 2, 'unknown command "lsiten"; did you mean listen?'],
  [["help", "map", "ad"], 2, 'unknown command of map: "ad"; did you mean add?'],
  [
    ["completion"],
    2,
    "an argument is missing: bash|zsh|fish",
    "`punchline help completion` explains the command",
  ],
  [["completion", "tcsh"], 2, "completion takes bash, zsh or fish, not tcsh"],
  [
    ["nat-test", "--nonsense"],
    2,
    "unknown option --nonsense",
    "`punchline help nat-test` explains the command",
  ],
  [
    ["nat-test", "--nonsense=5"],
    2,
    "unknown option --nonsense=5",
    "`punchline help nat-test` explains the command",
  ],
  [["nat-test", "--jsno"], 2, "unknown option --jsno; did you mean --json?"],
  [["nat-test", "-x"], 2, "unknown option -x", "`punchline help nat-test` explains the command"],
  [["nat-test", "-json"], 2, "unknown option -json; did you mean --json?"],
  [
    ["nat-test", "extra"],
    2,
    'unexpected argument "extra"',
    "`punchline help nat-test` explains the command",
  ],
  [["nat-test", "--server"], 2, "--server takes a value: HOST[:PORT]"],
  [["nat-test", "--server", "--json"], 2, "--server takes a value: HOST[:PORT]"],
  [["nat-test", "--server="], 2, "--server takes a value: HOST[:PORT]"],
  [
    ["nat-test", "--server", "192.0.2.1:99999"],
    2,
    '--server: Cannot parse port: "99999" is not a number from 1 to 65535',
  ],
  [
    ["nat-test", "--server", "192.0.2.1:0"],
    2,
    '--server: Cannot parse port: "0" is not a number from 1 to 65535',
  ],
  [
    ["nat-test", "--server", "192.0.2.1:"],
    2,
    '--server: Cannot parse port: "" is not a number from 1 to 65535',
  ],
  [
    ["nat-test", "--server", "192.0.2.300"],
    2,
    '--server: Cannot parse address: "192.0.2.300" names no host',
  ],
  [["nat-test", "--server", "a b"], 2, '--server: Cannot parse address: "a b" names no host'],
  [
    ["nat-test", "--server", "http://stun.example.net"],
    2,
    '--server: Cannot parse port: "//stun.example.net" is not a number from 1 to 65535',
  ],
  [
    ["nat-test", "--server", "[2001:db8::1"],
    2,
    '--server: Cannot parse address: "[2001:db8::1" names no host',
  ],
  [["nat-test", "--transport", "sctp"], 2, "--transport takes udp or tcp, not sctp"],
  [["nat-test", "--family", "5"], 2, "--family takes 4 or 6, not 5"],
  [
    ["nat-test", "--timeout", "0"],
    2,
    "--timeout takes a time such as 500ms, 5s, 2m, 1h or 7d, from 1ms to 10m, not 0",
  ],
  [
    ["nat-test", "--timeout=-5"],
    2,
    "--timeout takes a time such as 500ms, 5s, 2m, 1h or 7d, from 1ms to 10m, not -5",
  ],
  [
    ["nat-test", "--timeout", "1e3"],
    2,
    "--timeout takes a time such as 500ms, 5s, 2m, 1h or 7d, from 1ms to 10m, not 1e3",
  ],
  [
    ["nat-test", "--timeout", "99999999999999999999"],
    2,
    "--timeout takes a time such as 500ms, 5s, 2m, 1h or 7d, from 1ms to 10m, not 99999999999999999999",
  ],
  [
    ["nat-test", "--timeout", "5 s"],
    2,
    "--timeout takes a time such as 500ms, 5s, 2m, 1h or 7d, from 1ms to 10m, not 5 s",
  ],
  [
    ["nat-test", "--timeout", "5s", "--timeout", "6s"],
    2,
    "--timeout is given twice, and takes one value",
  ],
  [
    ["nat-test", "--lifetime", "soon"],
    2,
    "--lifetime takes a time such as 500ms, 5s, 2m, 1h or 7d, from 1s to 1d, not soon",
  ],
  [
    ["nat-test", "--lifetime", "2d"],
    2,
    "--lifetime takes a time such as 500ms, 5s, 2m, 1h or 7d, from 1s to 1d, not 2d",
  ],
  [["nat-test", "--json=yes"], 2, "--json takes no value"],
  [
    ["stun"],
    2,
    "an argument is missing: HOST[:PORT] (the STUN server)",
    "`punchline help stun` explains the command",
  ],
  [["stun", "a", "b"], 2, 'unexpected argument "b"', "`punchline help stun` explains the command"],
  [["stun", "192.0.2.1:99999"], 2, 'Cannot parse port: "99999" is not a number from 1 to 65535'],
  [["stun", ""], 2, 'Cannot parse address: "" names no host'],
  [
    ["stun", "192.0.2.1", "--udp"],
    2,
    "unknown option --udp",
    "`punchline help stun` explains the command",
  ],
  [["stun", "192.0.2.1", "--tcp", "--tls"], 2, "--tcp cannot be combined with --tls"],
  [
    ["stun", "192.0.2.1", "--timeout", "x"],
    2,
    "--timeout takes a time such as 500ms, 5s, 2m, 1h or 7d, from 1ms to 10m, not x",
  ],
  [
    ["map"],
    2,
    "map needs a command: add, list, delete, probe",
    "`punchline help map` explains them",
  ],
  [["map", "open"], 2, 'unknown command of map: "open"; use one of add, list, delete, probe'],
  [["map", "ad"], 2, 'unknown command of map: "ad"; did you mean add?'],
  [
    ["map", "add"],
    2,
    "an argument is missing: tcp|udp",
    "`punchline help map add` explains the command",
  ],
  [
    ["map", "add", "tcp"],
    2,
    "an argument is missing: PORT (the port on this machine, from 1 to 65535)",
    "`punchline help map add` explains the command",
  ],
  [["map", "add", "sctp", "80"], 2, 'the protocol must be tcp or udp, not "sctp"'],
  [["map", "add", "80", "tcp"], 2, 'the protocol must be tcp or udp, not "80"'],
  [["map", "add", "tcp", "0"], 2, 'Cannot parse port: "0" is not a number from 1 to 65535'],
  [
    ["map", "add", "tcp", "80", "--external", "x"],
    2,
    "--external takes a whole number from 1 to 65535, not x",
  ],
  [
    ["map", "add", "tcp", "80", "--lifetime", "0"],
    2,
    "--lifetime takes a time such as 500ms, 5s, 2m, 1h or 7d, from 1s to 4294967295s, not 0",
  ],
  [
    ["map", "add", "tcp", "80", "--protocol", "igd"],
    2,
    "--protocol takes auto, pcp, nat-pmp or upnp, not igd",
  ],
  [
    ["map", "add", "tcp", "80", "--gateway", "router"],
    2,
    '--gateway: Cannot parse IP address: "router"',
  ],
  [
    ["map", "add", "tcp", "80", "--server", "a b"],
    2,
    '--server: Cannot parse address: "a b" names no host',
  ],
  [
    ["map", "delete", "tcp"],
    2,
    "an argument is missing: PORT (the port on this machine, from 1 to 65535)",
    "`punchline help map delete` explains the command",
  ],
  [
    ["map", "list", "extra"],
    2,
    'unexpected argument "extra"',
    "`punchline help map list` explains the command",
  ],
  [
    ["map", "probe", "--nonsense"],
    2,
    "unknown option --nonsense",
    "`punchline help map probe` explains the command",
  ],
  [["serve", "--port", "99999"], 2, "--port takes a whole number from 0 to 65535, not 99999"],
  [["serve", "--port", "3479"], 2, "Cannot serve STUN: the ports must be different, not both 3479"],
  [["serve", "--address", "nonsense"], 2, '--address: Cannot parse IP address: "nonsense"'],
  [
    ["serve", "--alternate", "127.0.0.2"],
    2,
    "--alternate 127.0.0.2 needs an --address of the same family",
  ],
  [["serve", "--max-rooms", "0"], 2, "--max-rooms takes a whole number from 1 to 1000000, not 0"],
  [
    ["serve", "--trust-proxy", "10.0.0.0/99"],
    2,
    "--trust-proxy: Cannot read IP prefix 10.0.0.0/99: the length is 0 to 32 bits",
  ],
  [
    ["serve", "extra"],
    2,
    'unexpected argument "extra"',
    "`punchline help serve` explains the command",
  ],
  [
    ["punch", "--rendezvous", "ws://127.0.0.1:1", "--no-code"],
    2,
    "--no-code needs a room: name one, the same on both sides",
  ],
  [["punch", "kitchen"], 2, "--rendezvous is missing: name the server where the two sides meet"],
  [
    ["punch", "kitchen", "--rendezvous", "http://x"],
    2,
    "--rendezvous takes a URL such as ws://192.0.2.1:3480, not http://x",
  ],
  [["punch", "a", "b", "--rendezvous", "ws://127.0.0.1:1"], 2, "too many arguments: b"],
  [
    ["listen", "extra"],
    2,
    'unexpected argument "extra"',
    "`punchline help listen` explains the command",
  ],
  [["listen", "--tcp", "http"], 2, "--tcp takes a whole number from 1 to 65535, not http"],
  [["listen", "--tcp", "0"], 2, "--tcp takes a whole number from 1 to 65535, not 0"],
  [["listen", "--tcp", "80", "--timeout", "9s"], 2, "--timeout cannot be combined with --tcp"],
  [
    ["listen", "--strategy", "magic"],
    2,
    'Cannot connect by "magic": strategies are host, lan, ipv6, direct, mapped, punch-tcp, relay, punch',
  ],
  [
    ["listen", "--rendezvous", "kitchen"],
    2,
    "--rendezvous takes a URL such as ws://192.0.2.1:3480, not kitchen",
  ],
  [
    ["listen", "--rendezvous", "mqtt://x"],
    2,
    "--rendezvous takes a URL such as ws://192.0.2.1:3480, not mqtt://x",
  ],
  [
    ["listen", "--mqtt", "mqtt://"],
    2,
    'Cannot signal by "mqtt://": use a URL of ws:, wss:, lan:, mqtt:, mqtts:, mqtt+ws:, mqtt+wss:',
  ],
  [
    ["listen", "--turn", "http://x"],
    2,
    "Cannot use relay http://x: a relay is turn:... or turns:...",
  ],
  [
    ["listen", "--turn", "turn:me:secret"],
    2,
    "Cannot parse TURN URI: turn:… has no valid host, or no valid port",
  ],
  [
    ["listen", "--relay-only"],
    2,
    "--relay-only needs --rendezvous or --turn: a relay that the peer names would learn your address",
  ],
  [
    ["listen", "--relay-only", "--turn", "turn:192.0.2.1", "--strategy", "punch"],
    2,
    "--relay-only needs relay among the strategies: add it to --strategy",
  ],
  [["listen", "--allow", "me"], 2, "--allow takes an ID as `punchline id` prints it, not me"],
  [
    ["listen", "--hand", "--lan"],
    2,
    "--hand cannot be combined with --rendezvous, --mqtt or --lan",
  ],
  [["listen", "--key", ""], 2, "--key takes a value: FILE"],
  [["listen", "--timout", "5s"], 2, "unknown option --timout; did you mean --timeout?"],
  [
    ["connect"],
    2,
    "an argument is missing: the ticket or code, - to read it from stdin, @FILE, or PUNCHLINE_TICKET in the environment",
  ],
  [
    ["connect", "punchline:AAAA"],
    2,
    "Cannot read ticket: the checksum is wrong; copy the ticket again",
  ],
  [["connect", "7-quartz-lantern-otter"], 2, 'Cannot read code: "quartz" is not one of its words'],
  [["connect", "@/no/such/file"], 2, "ticket or code @/no/such/file: no such file or directory"],
  [["connect", TICKET, TICKET], 2, "too many arguments: punchline:…"],
  [
    ["connect", TICKET, "--hand"],
    2,
    "--hand cannot be used with this ticket, which names signaling servers",
  ],
  [
    ["connect", TICKET, "--tcp", "70000"],
    2,
    "--tcp takes a whole number from 1 to 65535, not 70000",
  ],
  [
    ["connect", BY_HAND, "--tcp", "80"],
    2,
    "--tcp cannot be used with manual signaling: each connection would need messages of its own",
  ],
  [
    ["connect", TICKET, "--allow", "x"],
    2,
    "unknown option --allow",
    "`punchline help connect` explains the command",
  ],
  [
    ["send"],
    2,
    "an argument is missing: FILE (a file or a folder)",
    "`punchline help send` explains the command",
  ],
  [["send", "/no/such/file", "--lan"], 1, "Cannot find /no/such/file: not found"],
  [
    ["send", "README.md", "--to", "x"],
    2,
    "unknown option --to",
    "`punchline help send` explains the command",
  ],
  [
    ["send", "--lan"],
    2,
    "an argument is missing: FILE (a file or a folder)",
    "`punchline help send` explains the command",
  ],
  [
    ["recv"],
    2,
    "an argument is missing: the ticket or code, - to read it from stdin, @FILE, or PUNCHLINE_TICKET in the environment",
  ],
  [
    ["recv", "punchline:AAAA", "--overwrite"],
    2,
    "Cannot read ticket: the checksum is wrong; copy the ticket again",
  ],
  [
    ["recv", TICKET, "--overwrite", "--rename", "--lan", "--yes"],
    2,
    "--overwrite cannot be combined with --rename",
  ],
  [["recv", TICKET, "--to"], 2, "--to takes a value: FOLDER"],
  [["recv", "photos/"], 2, "Cannot read ticket: a ticket starts with punchline:"],
  [
    ["ticket"],
    2,
    "ticket needs a command: new, list, revoke",
    "`punchline help ticket` explains them",
  ],
  [["ticket", "nw"], 2, 'unknown command of ticket: "nw"; did you mean new?'],
  [["ticket", "new"], 2, "--key is missing: name the file with the secret key, or one to create"],
  [["ticket", "list"], 2, "--key is missing: name the file with the secret key, or one to create"],
  [
    ["ticket", "revoke", "--key", "x"],
    2,
    "an argument is missing: NUMBER|NAME (as `punchline ticket list` shows)",
    "`punchline help ticket revoke` explains the command",
  ],
  [
    ["ticket", "new", "--key", "me.key", "--expires", "tomorrow"],
    2,
    "--expires takes a time such as 500ms, 5s, 2m, 1h or 7d, not tomorrow",
  ],
  [["id"], 2, "--key is missing: name the file with the secret key, or one to create"],
  [["id", "me.key"], 2, 'unexpected argument "me.key"', "`punchline help id` explains the command"],
  [
    ["peers"],
    2,
    "peers needs a command: add, list, remove",
    "`punchline help peers` explains them",
  ],
  [["peers", "ad"], 2, 'unknown command of peers: "ad"; did you mean add?'],
  [
    ["peers", "add"],
    2,
    "an argument is missing: NAME (what to call the friend)",
    "`punchline help peers add` explains the command",
  ],
  [
    ["peers", "add", "7up", "x"],
    2,
    "7up cannot be a name: use letters, digits, dots, hyphens and underscores, a letter first",
  ],
  [
    ["connect", "nobody-of-that-name"],
    2,
    "nobody-of-that-name is neither a ticket nor a code, and no friend's name: `punchline peers list` shows those, `punchline peers add nobody-of-that-name TICKET` adds one",
  ],
  [["recv", "7-abacus-abacus"], 2, "Cannot read code: 3 words follow the number, not 2"],
  [
    ["listen", "--code-expires", "soon"],
    2,
    "--code-expires takes a time such as 500ms, 5s, 2m, 1h or 7d, not soon",
  ],
  [["lab", "--runs", "0"], 2, "--runs takes a whole number from 1 to 1000, not 0"],
  [
    ["listen", "a\nb"],
    2,
    'unexpected argument "a\\nb"',
    "`punchline help listen` explains the command",
  ],
  [["x".repeat(500)], 2, `unknown command "${"x".repeat(60)}"`, "`punchline help` lists them"],
  [
    ["listen", `--${"y".repeat(500)}`],
    2,
    `unknown option --${"y".repeat(58)}…`,
    "`punchline help listen` explains the command",
  ],
];

for (const [args, code, line, remedy] of WRONG) {
  const shown = args.map((arg) => arg.length > 40 ? `${arg.slice(0, 20)}…` : JSON.stringify(arg));
  Deno.test(`punchline ${shown.join(" ")} exits with ${code}, and says why in one line`, async () => {
    const result = await runMain(args);
    const expected = [`punchline: ${line}`, ...remedy === undefined ? [] : [remedy]];
    assertEquals(result, { code, out: [], err: expected });
  });
}

Deno.test("there are at least 60 wrong inputs, of every command", () => {
  assert(WRONG.length >= 60, `${WRONG.length}`);
  const commands = new Set(WRONG.map(([args]) => args[0]));
  for (
    const command of [
      ...["nat-test", "stun", "map", "serve", "punch", "listen", "connect", "send", "recv"],
      ...["ticket", "id", "peers", "lab", "help", "completion"],
    ]
  ) {
    assert(commands.has(command), command);
  }
});
