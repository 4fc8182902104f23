/**
 * Wrong command lines: one line that says what is wrong, a second one only where there is something to do, the right exit
 * code, nothing on stdout, and never a stack trace.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { findCommand } from "../../lib/cli/command_table.ts";
import { encodeTicket } from "../../lib/peer/ticket.ts";
import { runMain } from "./run_main.ts";

const IDENTITY = { publicKey: new Uint8Array(32).fill(9), secret: new Uint8Array(16) };
const TICKET = encodeTicket({ ...IDENTITY, signaling: ["lan:"] });
const COPY_TICKET = "Copy the whole ticket again, from `punchline:` to its last character";
const USE_SOCKS = "For a host behind the peer, use --socks; the peer allows it with --allow-to";
const TYPE_CODE =
  "Type the number and the three words as the other side shows them, 7-amber-walrus-otter";
const NEITHER = "this is neither a ticket, nor a code, nor a friend's name";
const HOW_TO_TYPE =
  "Copy the ticket from `punchline:` on, or type the code like 7-amber-walrus-otter";
const RECEIVE = "`punchline recv` receives what it offers";
const NO_UNIT = (name: string, text: string) => `--${name} ${text} would be ${text} milliseconds`;
const BY_HAND = encodeTicket({ ...IDENTITY, signaling: ["hand:"] });

/** How messages describe a time. */
const TIME = "a time such as 500ms, 5s, 2m, 1h or 7d";

/** The remedy that names the help of the command. */
const EXPLAINED = Symbol("explained");

type Wrong = readonly [args: string[], line: string, remedy?: string | typeof EXPLAINED];

/** The command line, the line behind `punchline: `, and the remedy if there is one. */
const WRONG: readonly Wrong[] = [
  [["frobnicate"], 'unknown command "frobnicate"', "`punchline help` lists them"],
  [["lsiten"], 'unknown command "lsiten"; did you mean listen?'],
  [["Listen"], 'unknown command "Listen"; did you mean listen?'],
  [
    ["--listen"],
    "unknown option --listen",
    "The command comes first; `punchline help` lists them",
  ],
  [["--verison"], "unknown option --verison; did you mean --version?"],
  [
    ["punchline:AAAA"],
    "a ticket is not a command",
    "Use `punchline connect` with a ticket of listen, `punchline recv` with one of send",
  ],
  [["help", "lsiten"], 'unknown command "lsiten"; did you mean listen?'],
  [["help", "map", "ad"], 'unknown command of map: "ad"; did you mean add?'],
  [
    ["completion"],
    "an argument is missing: bash|zsh|fish",
    EXPLAINED,
  ],
  [["completion", "tcsh"], "completion takes bash, zsh or fish, not tcsh"],
  [
    ["nat-test", "--nonsense"],
    "unknown option --nonsense",
    EXPLAINED,
  ],
  [
    ["nat-test", "--nonsense=5"],
    "unknown option --nonsense=5",
    EXPLAINED,
  ],
  [["nat-test", "--jsno"], "unknown option --jsno; did you mean --json?"],
  [["nat-test", "-x"], "unknown option -x", EXPLAINED],
  [["nat-test", "-json"], "unknown option -json; did you mean --json?"],
  [
    ["nat-test", "extra"],
    'unexpected argument "extra"',
    EXPLAINED,
  ],
  [["nat-test", "--server"], "--server takes a value: HOST[:PORT]"],
  [["nat-test", "--server", "--json"], "--server takes a value: HOST[:PORT]"],
  [["nat-test", "--server="], "--server takes a value: HOST[:PORT]"],
  [
    ["nat-test", "--server", "192.0.2.1:99999"],
    '--server: Cannot parse port: "99999" is not a number from 1 to 65535',
  ],
  [
    ["nat-test", "--server", "192.0.2.1:0"],
    '--server: Cannot parse port: "0" is not a number from 1 to 65535',
  ],
  [
    ["nat-test", "--server", "192.0.2.1:"],
    '--server: Cannot parse port: "" is not a number from 1 to 65535',
  ],
  [
    ["nat-test", "--server", "192.0.2.300"],
    '--server: Cannot parse address: "192.0.2.300" names no host',
  ],
  [["nat-test", "--server", "a b"], '--server: Cannot parse address: "a b" names no host'],
  [
    ["nat-test", "--server", "http://stun.example.net"],
    "--server: Cannot parse address: it is a URL; write HOST or HOST:PORT",
  ],
  [
    ["nat-test", "--server", "[2001:db8::1"],
    '--server: Cannot parse address: "[2001:db8::1" names no host',
  ],
  [["nat-test", "--transport", "sctp"], "--transport takes udp or tcp, not sctp"],
  [["nat-test", "--family", "5"], "--family takes 4 or 6, not 5"],
  ...["0", "-5", "1e3", "99999999999999999999", "5 s"].map((value): Wrong => [
    ["nat-test", `--timeout=${value}`],
    `--timeout takes ${TIME}, from 1ms to 10m, not ${value}`,
  ]),
  [
    ["nat-test", "--timeout", "5s", "--timeout", "6s"],
    "--timeout is given twice, and takes one value",
  ],
  [
    ["nat-test", "--lifetime", "soon"],
    `--lifetime takes ${TIME}, from 1s to 1d, not soon`,
  ],
  [
    ["nat-test", "--lifetime", "2d"],
    `--lifetime takes ${TIME}, from 1s to 1d, not 2d`,
  ],
  [["nat-test", "--json=yes"], "--json takes no value"],
  [
    ["stun"],
    "an argument is missing: HOST[:PORT] (the STUN server)",
    EXPLAINED,
  ],
  [["stun", "a", "b"], 'unexpected argument "b"', EXPLAINED],
  [["stun", "192.0.2.1:99999"], 'Cannot parse port: "99999" is not a number from 1 to 65535'],
  [
    ["stun", ""],
    "an argument is empty: HOST[:PORT] (the STUN server)",
    EXPLAINED,
  ],
  [["send", "", "--lan"], "an argument is empty: FILE (a file or a folder)", EXPLAINED],
  [["send", ".", "", "--lan"], "an argument is empty: FILE (a file or a folder)", EXPLAINED],
  [
    ["stun", "192.0.2.1", "--udp"],
    "unknown option --udp",
    "listen and connect take --udp; `punchline help stun` explains the command",
  ],
  [["stun", "192.0.2.1", "--tcp", "--tls"], "--tcp cannot be combined with --tls"],
  [
    ["stun", "192.0.2.1", "--timeout", "x"],
    `--timeout takes ${TIME}, from 1ms to 10m, not x`,
  ],
  [["stun", "192.0.2.1", "--timeout", "5"], NO_UNIT("timeout", "5"), "Write 5s, 5m or 5ms"],
  [["listen", "--timeout", "5"], NO_UNIT("timeout", "5"), "Write 5s, 5m or 5ms"],
  [["listen", "--code-expires", "5"], NO_UNIT("code-expires", "5"), "Write 5s, 5m or 5ms"],
  [
    ["send", "--code-expires", "600", "a"],
    NO_UNIT("code-expires", "600"),
    "Write 600s, 600m or 600ms",
  ],
  [["recv", TICKET, "--timeout", "2.5"], NO_UNIT("timeout", "2.5"), "Write 2.5s, 2.5m or 2.5ms"],
  [
    ["ticket", "new", "--key", "k", "--expires", "5"],
    NO_UNIT("expires", "5"),
    "Write 5s, 5m or 5ms",
  ],
  [
    ["map"],
    "map needs a command: add, list, delete, probe",
    EXPLAINED,
  ],
  [["map", "open"], 'unknown command of map: "open"; use one of add, list, delete, probe'],
  [["map", "ad"], 'unknown command of map: "ad"; did you mean add?'],
  [
    ["map", "add"],
    "an argument is missing: tcp|udp",
    EXPLAINED,
  ],
  [
    ["map", "add", "tcp"],
    "an argument is missing: PORT (the port on this machine, from 1 to 65535)",
    EXPLAINED,
  ],
  [["map", "add", "sctp", "80"], 'the protocol must be tcp or udp, not "sctp"'],
  [["map", "add", "80", "tcp"], 'the protocol must be tcp or udp, not "80"'],
  [["map", "add", "tcp", "0"], 'Cannot parse port: "0" is not a number from 1 to 65535'],
  [
    ["map", "add", "tcp", "80", "--external", "x"],
    "--external takes a whole number from 1 to 65535, not x",
  ],
  [
    ["map", "add", "tcp", "80", "--lifetime", "0"],
    `--lifetime takes ${TIME}, from 1s to 4294967295s, not 0`,
  ],
  [
    ["map", "add", "tcp", "80", "--protocol", "igd"],
    "--protocol takes auto, pcp, nat-pmp or upnp, not igd",
  ],
  [
    ["map", "add", "tcp", "80", "--gateway", "router"],
    '--gateway: Cannot parse IP address: "router"',
  ],
  [
    ["map", "add", "tcp", "80", "--server", "a b"],
    '--server: Cannot parse address: "a b" names no host',
  ],
  [
    ["map", "delete", "tcp"],
    "an argument is missing: PORT (the port on this machine, from 1 to 65535)",
    EXPLAINED,
  ],
  [
    ["map", "list", "extra"],
    'unexpected argument "extra"',
    EXPLAINED,
  ],
  [
    ["map", "probe", "--nonsense"],
    "unknown option --nonsense",
    EXPLAINED,
  ],
  [["serve", "--port", "99999"], "--port takes a whole number from 0 to 65535, not 99999"],
  [["serve", "--port", "3479"], "Cannot serve STUN: the ports must be different, not both 3479"],
  [["serve", "--address", "nonsense"], '--address: Cannot parse IP address: "nonsense"'],
  [
    ["serve", "--alternate", "127.0.0.2"],
    "--alternate 127.0.0.2 needs an --address of the same family",
  ],
  [["serve", "--max-rooms", "0"], "--max-rooms takes a whole number from 1 to 1000000, not 0"],
  [
    ["serve", "--trust-proxy", "10.0.0.0/99"],
    "--trust-proxy: Cannot read IP prefix 10.0.0.0/99: the length is 0 to 32 bits",
  ],
  [
    ["serve", "extra"],
    'unexpected argument "extra"',
    EXPLAINED,
  ],
  [
    ["punch", "--rendezvous", "ws://127.0.0.1:1", "--no-code"],
    "--no-code needs a room: name one, the same on both sides",
  ],
  [["punch", "kitchen"], "--rendezvous is missing: name the server where the two sides meet"],
  [
    ["punch", "kitchen", "--rendezvous", "http://x"],
    "--rendezvous takes a URL such as ws://192.0.2.1:3480, not http://x",
  ],
  [["punch", "a", "b", "--rendezvous", "ws://127.0.0.1:1"], "too many arguments: b"],
  [
    ["listen", "extra"],
    'unexpected argument "extra"',
    EXPLAINED,
  ],
  [["listen", "--tcp", "http"], "--tcp takes a whole number from 1 to 65535, not http"],
  [["listen", "--tcp", "0"], "--tcp takes a whole number from 1 to 65535, not 0"],
  [["listen", "--tcp", "80", "--timeout", "9s"], "--timeout cannot be combined with --tcp"],
  [
    ["listen", "--strategy", "magic"],
    'Cannot connect by "magic": strategies are host, lan, ipv6, direct, mapped, punch-tcp, punch-udp, relay, punch',
  ],
  [
    ["listen", "--rendezvous", "kitchen"],
    "--rendezvous takes a URL such as ws://192.0.2.1:3480, not kitchen",
  ],
  [
    ["listen", "--rendezvous", "mqtt://x"],
    "--rendezvous takes a URL such as ws://192.0.2.1:3480, not mqtt://x",
  ],
  [
    ["listen", "--mqtt", "mqtt://"],
    'Cannot signal by "mqtt://": use a URL of ws:, wss:, lan:, mqtt:, mqtts:, mqtt+ws:, mqtt+wss:',
  ],
  [
    ["listen", "--turn", "http://x"],
    "Cannot use relay http://x: a relay is turn:... or turns:...",
  ],
  [
    ["listen", "--turn", "turn:me:secret"],
    "Cannot parse TURN URI: turn:… has no valid host, or no valid port",
  ],
  [
    ["listen", "--relay-only"],
    "--relay-only needs --rendezvous or --turn: a relay that the peer names would learn your address",
  ],
  [
    ["listen", "--relay-only", "--turn", "turn:192.0.2.1", "--strategy", "punch"],
    "--relay-only needs relay among the strategies: add it to --strategy",
  ],
  [["listen", "--allow", "me"], "--allow takes an ID as `punchline id` prints it, not me"],
  [
    ["listen", "--hand", "--lan"],
    "--hand cannot be combined with --rendezvous, --mqtt or --lan",
  ],
  [["listen", "--key", ""], "--key takes a value: FILE"],
  [["listen", "--timout", "5s"], "unknown option --timout; did you mean --timeout?"],
  [
    ["connect"],
    "an argument is missing: the ticket or code, - to read it from stdin, @FILE, or PUNCHLINE_TICKET in the environment",
  ],
  [
    ["connect", "punchline:AAAA"],
    "Cannot read ticket: the checksum is wrong",
    COPY_TICKET,
  ],
  [
    ["connect", "7-quartz-lantern-otter"],
    'Cannot read code: "quartz" is not one of its words',
    TYPE_CODE,
  ],
  [["connect", "@/no/such/file"], "ticket or code @/no/such/file: no such file or directory"],
  [["connect", TICKET, TICKET], "too many arguments: punchline:…"],
  [
    ["connect", TICKET, "--hand"],
    "--hand cannot be used with this ticket, which names signaling servers",
  ],
  [["connect", TICKET, "--bind", "0.0.0.0"], "--bind needs --tcp, --udp or --socks"],
  [
    ["connect", TICKET, "--tcp", "80", "--bind", "eth0"],
    "--bind takes an IP address, not eth0",
  ],
  [["connect", TICKET, "--tcp", "80:"], "--tcp takes LOCAL[:REMOTE], not 80:"],
  [["connect", TICKET, "--tcp", "80", "--socks", "80"], "port 80 is named twice"],
  [["connect", TICKET, "--udp", "53", "--udp", "53:1"], "UDP port 53 is named twice"],
  [["connect", TICKET, "--unix", "a", "--unix", "a:b"], "a is named twice"],
  [
    ["connect", TICKET, "--udp", "53:dns.sock"],
    "--udp takes a whole number from 1 to 65535, not dns.sock",
  ],
  [["connect", TICKET, "--udp", "53:"], "--udp takes LOCAL[:REMOTE], not 53:"],
  [["connect", TICKET, "--udp", "x"], "--udp takes a whole number from 1 to 65535, not x"],
  [["connect", TICKET, "--unix", "a:"], "--unix takes PATH[:REMOTE], not a:"],
  [["connect", TICKET, "--unix", ":22"], "--unix takes PATH[:REMOTE], not :22"],
  [
    ["connect", TICKET, "--unix", "x".repeat(104)],
    "--unix takes a path of at most 103 bytes",
  ],
  [["listen", "--unix", "x".repeat(104)], "--unix takes a path of at most 103 bytes"],
  [["listen", "--unix", ""], "--unix takes a value: PATH"],
  [
    ["connect", TICKET, "--unix", `${"x".repeat(94)}/s`],
    "--unix takes a path whose folder has at most 94 bytes",
  ],
  [
    ["listen", "--bind", "0.0.0.0"],
    "unknown option --bind",
    "connect takes --bind; `punchline help listen` explains the command",
  ],
  [["listen", "--tcp", "22", "--tcp", "22"], "port 22 is named twice"],
  [["listen", "--udp", "53", "--udp", "53"], "UDP port 53 is named twice"],
  [["listen", "--unix", "a", "--unix", "a"], "a is named twice"],
  [
    ["listen", "--allow-to", "a.example:80", "--allow-to", "a.example:80"],
    "a.example:80 is named twice",
  ],
  [
    ["connect", TICKET, "--timeout", "1"],
    "--timeout 1 would be 1 millisecond",
    "Write 1s, 1m or 1ms",
  ],
  [["connect", TICKET, "--tcp", "1:2:3"], "--tcp takes LOCAL[:REMOTE], not 1:2:3", USE_SOCKS],
  [
    ["connect", TICKET, "--tcp", "80:localhost:80"],
    "--tcp takes LOCAL[:REMOTE], not 80:localhost:80",
    USE_SOCKS,
  ],
  [["connect", TICKET, "--udp", "1:2:3"], "--udp takes LOCAL[:REMOTE], not 1:2:3", USE_SOCKS],
  [["listen", "--udp", "0"], "--udp takes a whole number from 1 to 65535, not 0"],
  [["listen", "--udp", "53", "--timeout", "9s"], "--timeout cannot be combined with --udp"],
  [
    ["connect", BY_HAND, "--udp", "53"],
    "--udp cannot be used with manual signaling: each connection would need messages of its own",
  ],
  [["listen", "--allow-to", "a.example"], "--allow-to takes HOST:PORT or *:PORT, not a.example"],
  [
    ["listen", "--allow-to", "a.example:65536"],
    "--allow-to takes HOST:PORT or *:PORT, not a.example:65536",
  ],
  [
    ["connect", TICKET, "--tcp", "70000"],
    "--tcp takes a whole number from 1 to 65535, not 70000",
  ],
  [
    ["connect", BY_HAND, "--tcp", "80"],
    "--tcp cannot be used with manual signaling: each connection would need messages of its own",
  ],
  [
    ["connect", TICKET, "--allow", "x"],
    "unknown option --allow",
    "send and listen take --allow; `punchline help connect` explains the command",
  ],
  [
    ["send"],
    "an argument is missing: FILE (a file or a folder)",
    EXPLAINED,
  ],
  [["send", "7-amber-walrus-otter"], "a code is not a file", RECEIVE],
  [["send", "README.md", TICKET], "a ticket is not a file", RECEIVE],
  [
    ["send", "README.md", "--to", "x"],
    "unknown option --to",
    "recv takes --to; `punchline help send` explains the command",
  ],
  [
    ["send", "--lan"],
    "an argument is missing: FILE (a file or a folder)",
    EXPLAINED,
  ],
  [
    ["recv"],
    "an argument is missing: the ticket or code, - to read it from stdin, @FILE, or PUNCHLINE_TICKET in the environment",
  ],
  [
    ["recv", "punchline:AAAA", "--overwrite"],
    "Cannot read ticket: the checksum is wrong",
    COPY_TICKET,
  ],
  [
    ["recv", TICKET, "--overwrite", "--rename", "--lan", "--yes"],
    "--overwrite cannot be combined with --rename",
  ],
  [["recv", TICKET, "--to"], "--to takes a value: FOLDER"],
  [["recv", "photos/"], NEITHER, HOW_TO_TYPE],
  [["connect", "7amberwalrusotter"], NEITHER, HOW_TO_TYPE],
  [["connect", " "], "the ticket or code is empty"],
  [
    ["recv", "punchline-hand:AwAAAAADAQIDqI3hrg"],
    "this is a message of manual signaling, not a ticket",
    "Paste it where a command asks for it; start that one with a ticket, from `punchline:` on",
  ],
  [["connect", TICKET.slice(0, 59)], "Cannot read ticket: it is cut off", COPY_TICKET],
  [["connect", TICKET.slice(0, 60)], "Cannot read ticket: the checksum is wrong", COPY_TICKET],
  [
    ["peers", "add", "laptop", "garbage"],
    "garbage is neither a ticket nor a code, and no friend's name",
    "Use a ticket or a code: `punchline peers add laptop TICKET`",
  ],
  [
    ["ticket", "list", "--key", "tests/no.key"],
    "--key tests/no.key: there is no such file",
    "Check the spelling of the path; `punchline ticket new` and listen create a key",
  ],
  [
    ["stun", "http://me:secret@192.0.2.1"],
    "Cannot parse address: it is a URL; write HOST or HOST:PORT",
  ],
  [["-v"], "unknown option -v; did you mean --version?"],
  [
    ["ticket"],
    "ticket needs a command: new, list, revoke",
    EXPLAINED,
  ],
  [["ticket", "nw"], 'unknown command of ticket: "nw"; did you mean new?'],
  [["ticket", "new"], "--key is missing: name the file with the secret key, or one to create"],
  [["ticket", "list"], "--key is missing: name the file with the secret key, or one to create"],
  [
    ["ticket", "revoke", "--key", "x"],
    "an argument is missing: NUMBER|NAME (as `punchline ticket list` shows)",
    EXPLAINED,
  ],
  [
    ["ticket", "new", "--key", "me.key", "--expires", "tomorrow"],
    `--expires takes ${TIME}, not tomorrow`,
  ],
  [["id"], "--key is missing: name the file with the secret key, or one to create"],
  [["id", "me.key"], 'unexpected argument "me.key"', EXPLAINED],
  [
    ["peers"],
    "peers needs a command: add, list, remove",
    EXPLAINED,
  ],
  [["peers", "ad"], 'unknown command of peers: "ad"; did you mean add?'],
  [
    ["peers", "add"],
    "an argument is missing: NAME (what to call the friend)",
    EXPLAINED,
  ],
  [
    ["peers", "add", "7up", "x"],
    "7up cannot be a name: use letters, digits, dots, hyphens and underscores, a letter first",
  ],
  [
    ["connect", "nobody-of-that-name"],
    "nobody-of-that-name is neither a ticket nor a code, and no friend's name",
    "`punchline peers list` shows friends, `punchline peers add nobody-of-that-name TICKET` adds one",
  ],
  [["recv", "7-abacus-abacus"], "Cannot read code: 3 words follow the number, not 2", TYPE_CODE],
  [
    ["listen", "--code-expires", "soon"],
    `--code-expires takes ${TIME}, not soon`,
  ],
  [["lab", "--runs", "0"], "--runs takes a whole number from 1 to 1000, not 0"],
  [
    ["listen", "a\nb"],
    'unexpected argument "a\\nb"',
    EXPLAINED,
  ],
  [["x".repeat(500)], `unknown command "${"x".repeat(60)}"`, "`punchline help` lists them"],
  [
    ["listen", `--${"y".repeat(500)}`],
    `unknown option --${"y".repeat(58)}…`,
    EXPLAINED,
  ],
];

for (const [args, line, remedy] of WRONG) {
  const shown = args.map((arg) => arg.length > 40 ? `${arg.slice(0, 20)}…` : JSON.stringify(arg));
  Deno.test(`punchline ${shown.join(" ")} exits with 2, and says why in one line`, async () => {
    const said = remedy === EXPLAINED ? explanationOf(args) : remedy;
    const err = [`punchline: ${line}`, ...said === undefined ? [] : [said]];
    assertEquals(await runMain(args), { code: 2, out: [], err });
  });
}

Deno.test("a file that cannot be found is a failure, not a wrong command line", async () => {
  const err = ["punchline: Cannot find /no/such/file: not found", "Check the spelling of the path"];
  const result = await runMain(["send", "/no/such/file", "--lan"]);
  assertEquals(result, { code: 1, out: [], err });
});

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

function explanationOf(args: readonly string[]): string {
  const { name, subcommands } = findCommand(args)!;
  return `\`punchline help ${name}\` explains ${
    subcommands === undefined ? "the command" : "them"
  }`;
}
