/**
 * The commands as data: operands, options, examples and permissions. The command line is read by this table, and help,
 * usage errors, the man page and completion are made from it.
 *
 * @module
 */

import {
  ALLOW_OPTION,
  DURATION,
  JSON_OPTION,
  KEY_OPTION,
  MEETING_OPTIONS,
  type Option,
  option,
  PEER_OPTIONS,
  QR_OPTION,
  SECONDS,
  timeoutOption,
} from "./option_table.ts";

/** One command, or one of its subcommands. */
export interface Command {
  /** What is typed: `listen`, or `map add`. */
  readonly name: string;
  /** What it does: starts with a verb, and has no period. */
  readonly summary: string;
  /** What a person may want to know before the first use, in sentences. */
  readonly details?: string;
  /** Its arguments without dashes, in order. */
  readonly operands: readonly Operand[];
  /** Its options. */
  readonly options: readonly Option[];
  /** Its usual uses. */
  readonly examples: readonly Example[];
  /** The permissions that it needs; what else it can use is in `docs/install.md`. */
  readonly permissions: readonly Permission[];
  /** Whether `--json` prints events on stderr, because stdout is the connection. */
  readonly printsEvents?: boolean;
  /** If there are any, one of them has to be named. */
  readonly subcommands?: readonly Command[];
  /** Whether lists leave it out. */
  readonly isHidden?: boolean;
}

/** An argument without dashes. */
export interface Operand {
  /** Its placeholder, such as `TICKET`. */
  readonly name: string;
  /** What it is, without a period. */
  readonly help: string;
  /** What may stand in its place, as usage shows it. Default: its name. */
  readonly shown?: string;
  readonly isOptional?: boolean;
  readonly repeats?: boolean;
  readonly choices?: readonly string[];
  readonly completes?: "file" | "folder" | "command";
}

/** A use of a command. */
export interface Example {
  /** What follows the command's name. */
  readonly args: string;
  /** What it does, in a few words. */
  readonly does: string;
}

/** A permission of Deno's; `all` are all. */
export type Permission = "net" | "read" | "write" | "all";

/**
 * Finds the command that the words name, and how many of them its name takes.
 *
 * @returns `undefined` if the first word names no command
 */
export function findCommand(words: readonly string[]): Command | undefined {
  const command = COMMANDS.find(({ name }) => name === words[0]);
  const full = `${words[0]} ${words[1]}`;
  return command?.subcommands?.find(({ name }) => name === full) ?? command;
}

/**
 * The command of this name.
 *
 * @throws {Error} if there is none, which is a fault of this program
 */
export function commandNamed(name: string): Command {
  const command = findCommand(name.split(" "));
  if (command?.name === name) return command;
  throw new Error(`Cannot find the command ${name}: the table does not have it`);
}

/** How usage shows an operand. */
export function operandText({ name, shown = name, isOptional, repeats }: Operand): string {
  return `${isOptional ? `[${shown}]` : shown}${repeats ? "..." : ""}`;
}

const STUN_SERVER_OPTION = option("server", {
  value: "HOST[:PORT]",
  repeats: true,
  help: "use this STUN server",
  fallback: "public ones",
});

const TICKET_OPERAND: Operand = {
  name: "TICKET",
  shown: "TICKET|@FILE|-",
  isOptional: true,
  help: "what the other side printed; @FILE reads it from a file, - from stdin, and without it " +
    "$PUNCHLINE_TICKET is used",
};

const PORT_OPERANDS: readonly Operand[] = [
  { name: "PROTOCOL", shown: "tcp|udp", choices: ["tcp", "udp"], help: "tcp or udp" },
  { name: "PORT", help: "the port on this machine, from 1 to 65535" },
];

const GATEWAY_OPTION = option("gateway", {
  value: "IP",
  help: "the router's address",
  fallback: "found automatically",
});

const CHECK_SERVER_OPTION = option("server", {
  value: "HOST[:PORT]",
  repeats: true,
  help: "a STUN server to check the external address with",
  fallback: "no check",
});

const MAP_COMMANDS: readonly Command[] = [
  {
    name: "map add",
    summary: "open a port on the router, and keep it open until Ctrl-C",
    operands: PORT_OPERANDS,
    options: [
      option("external", {
        value: "PORT",
        help: "the external port to ask for",
        fallback: "the same",
      }),
      option("lifetime", {
        value: SECONDS,
        help: "the lease to ask for; it is renewed in time",
        fallback: "1h",
      }),
      option("protocol", {
        value: "NAME",
        choices: ["auto", "pcp", "nat-pmp", "upnp"],
        help: "how to ask the router: auto, pcp, nat-pmp or upnp",
        fallback: "auto, all at once",
      }),
      CHECK_SERVER_OPTION,
      option("check", {
        value: SECONDS,
        help: "check this often that the mapping still exists",
        fallback: "60s",
      }),
      option("keep", { help: "leave the port open on exit, until the lease expires" }),
      GATEWAY_OPTION,
      JSON_OPTION,
    ],
    examples: [
      { args: "tcp 8080", does: "let the internet reach port 8080 of this machine" },
      { args: "udp 5000 --external 6000 --lifetime 2h", does: "ask for another port, for longer" },
    ],
    permissions: ["net"],
  },
  {
    name: "map list",
    summary: "list the ports that are open on the router",
    operands: [],
    options: [GATEWAY_OPTION, JSON_OPTION],
    examples: [{ args: "", does: "show all mappings that the router tells" }],
    permissions: ["net"],
  },
  {
    name: "map delete",
    summary: "close a port on the router",
    operands: PORT_OPERANDS,
    options: [GATEWAY_OPTION, JSON_OPTION],
    examples: [{ args: "tcp 8080", does: "close what map add --keep left open" }],
    permissions: ["net"],
  },
  {
    name: "map probe",
    summary: "show what the router answers to each protocol, and what to change",
    operands: [],
    options: [CHECK_SERVER_OPTION, GATEWAY_OPTION, JSON_OPTION],
    examples: [{ args: "", does: "find the router and ask it" }],
    permissions: ["net"],
  },
];

/** A key has to be named. */
const OWN_KEY_OPTION: Option = {
  ...KEY_OPTION,
  help: "the file with this peer's secret key, created if missing; has to be named",
};

const TICKET_COMMANDS: readonly Command[] = [
  {
    name: "ticket new",
    summary: "issue a further ticket for this peer",
    operands: [],
    options: [
      option("name", { value: "NAME", help: "what to call the ticket, for list and revoke" }),
      option("once", { help: "a ticket for one connection, or one finished transfer" }),
      option("expires", {
        value: DURATION,
        help: "how long the ticket is good for, such as 30m, 1h or 7d",
        fallback: "until it is revoked",
      }),
      ...MEETING_OPTIONS.map((each) => ({
        ...each,
        ...each.name === "rendezvous"
          ? {
            help: "the server that the ticket names",
            fallback: "where listen or send was reachable last",
          }
          : each.name === "mqtt"
          ? { help: "an MQTT broker that the ticket names" }
          : { help: "make a ticket for the local network" },
      })),
      OWN_KEY_OPTION,
      JSON_OPTION,
    ],
    examples: [
      { args: "--key me.key --name bob --expires 7d", does: "a ticket for Bob, good for a week" },
    ],
    permissions: ["read", "write"],
  },
  {
    name: "ticket list",
    summary: "list this peer's tickets",
    operands: [],
    options: [OWN_KEY_OPTION, JSON_OPTION],
    examples: [{ args: "--key me.key", does: "show their numbers, names and ends" }],
    permissions: ["read", "write"],
  },
  {
    name: "ticket revoke",
    summary: "take a ticket back",
    operands: [{ name: "TICKET", shown: "NUMBER|NAME", help: "as `punchline ticket list` shows" }],
    options: [OWN_KEY_OPTION, JSON_OPTION],
    examples: [{ args: "bob --key me.key", does: "Bob's ticket opens nothing any more" }],
    permissions: ["read", "write"],
  },
];

/** What `punchline` does, in the order in which help lists it. */
export const COMMANDS: readonly Command[] = [
  {
    name: "send",
    summary: "send files and folders to whoever uses the ticket that it prints",
    operands: [{ name: "FILE", help: "a file or a folder", repeats: true, completes: "file" }],
    options: [...PEER_OPTIONS, ALLOW_OPTION, QR_OPTION],
    examples: [
      { args: "photos/", does: "offer a folder; the other side runs the command that is printed" },
      { args: "report.pdf --lan", does: "stay on the local network" },
    ],
    permissions: ["net", "read"],
  },
  {
    name: "recv",
    summary: "receive the files that a ticket offers",
    details:
      "Shows what is offered and asks before anything is written. If it is interrupted, the " +
      "same command continues where it was.",
    operands: [TICKET_OPERAND],
    options: [
      option("to", {
        value: "FOLDER",
        completes: "folder",
        help: "the folder to write to",
        fallback: "the current folder",
      }),
      option("yes", { help: "receive without asking" }),
      option("merge", { help: "accept files into existing folders of the same name" }),
      option("allow-hidden", {
        help: "accept hidden files and programs even into folders that existed before the transfer",
      }),
      option("overwrite", { help: "replace existing files that differ" }),
      option("rename", {
        help: "keep existing files that differ, and save the new ones under other names",
      }),
      timeoutOption("how long to wait for the sender", "30s"),
      ...PEER_OPTIONS,
    ],
    examples: [
      { args: "punchline:AQAB...", does: "show what is offered, ask, and write it here" },
      { args: "punchline:AQAB... --to inbox --yes", does: "the same without asking, in a script" },
    ],
    permissions: ["net", "read", "write"],
  },
  {
    name: "listen",
    summary: "print a ticket and wait for a peer; stdin and stdout are the connection",
    operands: [],
    options: [
      option("tcp", {
        value: "PORT",
        help: "forward each connection to this port of this machine",
      }),
      timeoutOption("how long to wait for the first peer", "until Ctrl-C"),
      ...PEER_OPTIONS,
      ALLOW_OPTION,
      QR_OPTION,
    ],
    examples: [
      { args: "", does: "a chat, or a pipe, with whoever uses the ticket" },
      {
        args: "--tcp 22 --key home.key",
        does: "share the SSH server, with the same ticket always",
      },
    ],
    permissions: ["net"],
    printsEvents: true,
  },
  {
    name: "connect",
    summary: "connect to the peer that printed a ticket; stdin and stdout are the connection",
    operands: [TICKET_OPERAND],
    options: [
      option("tcp", {
        value: "PORT",
        help: "forward each connection to this port of this machine to the peer",
      }),
      timeoutOption("how long to wait for the peer", "30s"),
      ...PEER_OPTIONS,
    ],
    examples: [
      { args: "punchline:AQAB...", does: "a chat, or a pipe, with the peer" },
      {
        args: "punchline:AQAB... --tcp 2222",
        does: "the peer's listen --tcp 22 at 127.0.0.1:2222",
      },
    ],
    permissions: ["net"],
    printsEvents: true,
  },
  {
    name: "nat-test",
    summary: "find out which NAT this machine is behind, and what that means",
    operands: [],
    options: [
      STUN_SERVER_OPTION,
      option("transport", {
        value: "udp|tcp",
        choices: ["udp", "tcp"],
        help: "test UDP or TCP only",
        fallback: "both",
      }),
      option("family", {
        value: "4|6",
        choices: ["4", "6"],
        help: "test IPv4 or IPv6 only",
        fallback: "both",
      }),
      timeoutOption("how long to test", "5s"),
      option("no-hairpinning", { help: "skip the hairpinning test" }),
      option("lifetime", {
        value: SECONDS,
        help: "also measure how long idle mappings last, up to this long",
      }),
      { name: "verbose", group: "Output", help: "print diagnostics on stderr" },
      JSON_OPTION,
    ],
    examples: [
      { args: "", does: "test with public servers" },
      { args: "--server 127.0.0.1", does: "test with a `punchline serve` on this machine" },
    ],
    permissions: ["net"],
  },
  {
    name: "punch",
    summary: "connect over TCP through two NATs; stdin and stdout are the connection",
    operands: [{ name: "ROOM", help: "a name that both sides agreed on" }],
    options: [
      {
        ...MEETING_OPTIONS[0]!,
        repeats: false,
        help: "the server where the two sides meet, such as ws://192.0.2.1:3480; has to be named",
        fallback: undefined,
      },
      STUN_SERVER_OPTION,
      timeoutOption(
        "how long to wait for the other side, and then for the connection",
        "until Ctrl-C, and 30s",
      ),
      JSON_OPTION,
    ],
    examples: [
      { args: "kitchen --rendezvous ws://192.0.2.1:3480", does: "run it on both machines" },
    ],
    permissions: ["net"],
    printsEvents: true,
  },
  {
    name: "map",
    summary:
      "open a port on the router, list or close open ports, or show what the router supports",
    operands: [],
    options: [],
    examples: [
      { args: "add tcp 8080", does: "open a port until Ctrl-C" },
      { args: "probe", does: "show what the router supports" },
    ],
    permissions: ["net"],
    subcommands: MAP_COMMANDS,
  },
  {
    name: "stun",
    summary: "ask a STUN server which address it sees",
    operands: [{ name: "SERVER", shown: "HOST[:PORT]", help: "the STUN server" }],
    options: [
      option("tcp", { help: "over TCP" }),
      option("tls", { help: "over TLS" }),
      timeoutOption("how long to wait for the answer", "10s"),
      JSON_OPTION,
    ],
    examples: [{ args: "stun.example.net --tcp", does: "one binding request over TCP" }],
    permissions: ["net"],
  },
  {
    name: "serve",
    summary: "run your own STUN server and rendezvous",
    operands: [],
    options: [
      option("address", {
        value: "IP",
        repeats: true,
        help: "serve at this address of this machine",
        fallback: "loopback, for a test on this machine",
      }),
      option("alternate", {
        value: "IP",
        repeats: true,
        help: "a second address of this machine, which clients need to classify their NATs",
      }),
      option("port", { value: "PORT", help: "the STUN port", fallback: "3478" }),
      option("alternate-port", { value: "PORT", help: "the second STUN port", fallback: "3479" }),
      option("rendezvous-port", {
        value: "PORT",
        help: "the port of the rendezvous",
        fallback: "3480",
      }),
      option("trust-proxy", {
        value: "ADDRESS[/BITS]",
        repeats: true,
        help: "believe X-Forwarded-For from this address or prefix, such as 10.0.0.0/8, to count " +
          "clients by",
      }),
      limitOption("max-connections", "accept this many connections, per service", "2048"),
      limitOption(
        "max-connections-per-source",
        "accept this many from one IPv4 address or IPv6 /64",
        "128 for STUN, 64 for the rendezvous",
      ),
      limitOption("max-rooms", "open this many rooms at a time", "2048"),
      limitOption("max-topics", "keep this many topics at a time", "131072"),
      JSON_OPTION,
    ],
    examples: [
      { args: "", does: "on this machine only, to try things out" },
      { args: "--address 192.0.2.1 --alternate 192.0.2.2", does: "for others, on a public server" },
    ],
    permissions: ["net"],
  },
  {
    name: "ticket",
    summary: "issue further tickets for this peer, list them, or take one back",
    operands: [],
    options: [],
    examples: [
      { args: "new --key me.key --once", does: "a ticket for one connection" },
      { args: "list --key me.key", does: "show all of them" },
    ],
    permissions: ["read", "write"],
    subcommands: TICKET_COMMANDS,
  },
  {
    name: "id",
    summary: "print this peer's ID, for --allow",
    operands: [],
    options: [OWN_KEY_OPTION, JSON_OPTION],
    examples: [{ args: "--key me.key", does: "what a friend passes to --allow" }],
    permissions: ["read", "write"],
  },
  {
    name: "lab",
    summary: "run the NAT lab: simulated NATs between real programs (Linux)",
    operands: [{
      name: "SUITE",
      isOptional: true,
      repeats: true,
      choices: [
        ...["verdicts", "loss", "times", "adverse", "punch", "figures", "peers", "transfer"],
        "outages",
      ],
      help: "verdicts, loss, times, adverse, punch, figures, peers, transfer or outages; without " +
        "any, all of them",
    }],
    options: [
      option("runs", { value: "N", help: "how many runs of each kind" }),
      option("server", {
        value: "NAME",
        repeats: true,
        choices: ["punchline", "coturn", "vovida"],
        help: "the STUN server to test against: punchline, coturn or vovida",
      }),
      option("row", { value: "NAME", repeats: true, help: "run only the rows of this name" }),
      option("svg", {
        value: "FILE",
        completes: "file",
        help: "draw the punch matrix into this file",
      }),
      JSON_OPTION,
    ],
    examples: [{ args: "punch --runs 3", does: "the punch matrix, each pair three times" }],
    permissions: ["all"],
  },
  {
    name: "help",
    summary: "explain a command; --man prints the man page",
    operands: [{
      name: "COMMAND",
      isOptional: true,
      repeats: true,
      completes: "command",
      help: "the command to explain",
    }],
    options: [option("man", { help: "print the man page of all commands, as roff" })],
    examples: [
      { args: "send", does: "examples and options of send" },
      { args: "--man | man -l -", does: "everything, on Linux" },
    ],
    permissions: [],
  },
  {
    name: "completion",
    summary: "print what makes Tab complete commands and options in bash, zsh or fish",
    operands: [{
      name: "SHELL",
      shown: "bash|zsh|fish",
      choices: ["bash", "zsh", "fish"],
      help: "the shell",
    }],
    options: [],
    examples: [
      { args: "bash >> ~/.bash_completion", does: "for bash" },
      { args: "fish > ~/.config/fish/completions/punchline.fish", does: "for fish" },
      { args: 'zsh > "${fpath[1]}/_punchline"', does: "for zsh, in a folder of yours in $fpath" },
    ],
    permissions: [],
  },
  {
    name: "complete",
    summary: "print what a word may become, for the scripts of completion",
    operands: [{ name: "WORD", help: "what is typed", repeats: true, isOptional: true }],
    options: [],
    examples: [{ args: "-- map pr", does: "what Tab does behind map pr" }],
    permissions: [],
    isHidden: true,
  },
];

function limitOption(name: string, help: string, fallback: string): Option {
  return { name, value: "N", group: "Limits", help, fallback };
}
