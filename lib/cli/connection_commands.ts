/**
 * The commands that connect two machines, as data: operands, options, examples and permissions.
 *
 * @module
 */

import { type Command, commandGroup, type Operand } from "./command.ts";
import {
  ALLOW_OPTION,
  codeOptions,
  DURATION,
  JSON_OPTION,
  KEY_OPTION,
  MEETING_OPTIONS,
  MESSAGE_QR_OPTION,
  type Option,
  option,
  PEER_OPTIONS,
  PROXY_OPTION,
  QR_OPTION,
  STUN_SERVER_OPTION,
  timeoutOption,
  VERBOSE_OPTION,
} from "./option_table.ts";

/** The number and the three words of a code may be typed with spaces. */
const MAX_TARGET_WORDS = 4;

const TARGET_OPERAND: Operand = {
  name: "TICKET",
  shown: "TICKET|CODE|NAME|@FILE|-",
  isOptional: true,
  maxWords: MAX_TARGET_WORDS,
  completes: "target",
  help: "the code or ticket that the other side printed, or the name of a friend, as " +
    "`punchline peers list` shows it; @FILE reads it from a file, - from stdin, and without it " +
    "$PUNCHLINE_TICKET is used",
};

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

const FRIEND_OPERAND: Operand = { name: "NAME", help: "what to call the friend" };

const PEERS_COMMANDS: readonly Command[] = [
  {
    name: "peers add",
    summary: "give a friend a name, for connect and recv",
    operands: [FRIEND_OPERAND, TARGET_OPERAND],
    options: [
      option("replace", { help: "replace what is there under this name, without asking" }),
      ...PEER_OPTIONS,
    ],
    examples: [
      { args: "laptop 7-abacus-walrus-zodiac", does: "then connect laptop is enough" },
    ],
    permissions: ["net", "read", "write"],
  },
  {
    name: "peers list",
    summary: "list the names and IDs of friends",
    operands: [],
    options: [JSON_OPTION],
    examples: [{ args: "", does: "show all of them" }],
    permissions: ["read"],
  },
  {
    name: "peers remove",
    summary: "remove a friend's name",
    operands: [{
      ...FRIEND_OPERAND,
      completes: "friend",
      help: "as `punchline peers list` shows it",
    }],
    options: [JSON_OPTION],
    examples: [{ args: "laptop", does: "connect laptop works no more" }],
    permissions: ["read", "write"],
  },
];

/** In the order in which help lists them. */
export const CONNECTION_COMMANDS: readonly Command[] = [
  {
    name: "send",
    summary: "send files and folders to whoever uses the code that it prints",
    operands: [{ name: "FILE", help: "a file or a folder", repeats: true, completes: "file" }],
    options: [...codeOptions(), ...PEER_OPTIONS, ALLOW_OPTION, QR_OPTION],
    examples: [
      { args: "photos/", does: "offer a folder; the other side runs the command that is printed" },
      { args: "report.pdf --lan", does: "stay on the local network" },
    ],
    permissions: ["net", "read"],
  },
  {
    name: "recv",
    summary: "receive the files that a code or a ticket offers",
    details:
      "Shows what is offered and asks before anything is written. If it is interrupted, the " +
      "same command continues where it was.",
    operands: [TARGET_OPERAND],
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
      MESSAGE_QR_OPTION,
    ],
    examples: [
      { args: "7-abacus-walrus-zodiac", does: "show what is offered, ask, and write it here" },
      {
        args: "7-abacus-walrus-zodiac --to inbox --yes",
        does: "the same without asking, in a script",
      },
    ],
    permissions: ["net", "read", "write"],
  },
  {
    name: "listen",
    summary: "print a code and a ticket, and wait for a peer; stdin and stdout are the connection",
    operands: [],
    options: [
      option("tcp", {
        value: "PORT",
        repeats: true,
        help: "offer this port of this machine; the first is what a peer gets that names none",
      }),
      option("unix", {
        value: "PATH",
        repeats: true,
        completes: "file",
        help: "offer the Unix socket at this path, as --tcp does a port; ports come first",
      }),
      option("udp", {
        value: "PORT",
        repeats: true,
        help: "offer this UDP port of this machine, to `connect --udp`",
      }),
      option("allow-to", {
        value: "HOST:PORT",
        repeats: true,
        help: "let peers reach this host by `connect --socks`; *:PORT for any on the internet",
      }),
      VERBOSE_OPTION,
      timeoutOption("how long to wait for the first peer", "until Ctrl-C"),
      ...codeOptions(),
      ...PEER_OPTIONS,
      ALLOW_OPTION,
      QR_OPTION,
    ],
    examples: [
      { args: "", does: "a chat, or a pipe, with whoever uses the code" },
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
    summary:
      "connect to the peer that printed a code or a ticket; stdin and stdout are the connection",
    operands: [TARGET_OPERAND],
    options: [
      option("tcp", {
        value: "LOCAL[:REMOTE]",
        repeats: true,
        help: "forward each connection to this port of this machine to the port REMOTE that the " +
          "peer offers, or to its first",
      }),
      option("unix", {
        value: "PATH[:REMOTE]",
        repeats: true,
        completes: "file",
        help: "the same from a Unix socket at this path, to which only you can connect",
      }),
      option("udp", {
        value: "LOCAL[:REMOTE]",
        repeats: true,
        help:
          "forward datagrams to this UDP port of this machine to the UDP port REMOTE that the " +
          "peer offers, or to its first",
      }),
      option("socks", {
        value: "PORT",
        help: "serve SOCKS5 on this port of this machine, for the hosts that the peer allows",
      }),
      option("bind", {
        value: "IP",
        help: "listen for --tcp, --udp and --socks on this address, which others may reach as well",
        fallback: "127.0.0.1",
      }),
      VERBOSE_OPTION,
      timeoutOption("how long to wait for the peer", "30s"),
      ...PEER_OPTIONS,
      MESSAGE_QR_OPTION,
    ],
    examples: [
      { args: "7-abacus-walrus-zodiac", does: "a chat, or a pipe, with the peer" },
      {
        args: "7-abacus-walrus-zodiac --tcp 2222",
        does: "the peer's listen --tcp 22 at 127.0.0.1:2222",
      },
    ],
    permissions: ["net"],
    printsEvents: true,
  },
  {
    name: "punch",
    summary: "connect over TCP through two NATs; stdin and stdout are the connection",
    operands: [{
      name: "ROOM",
      shown: "ROOM|CODE",
      isOptional: true,
      maxWords: MAX_TARGET_WORDS,
      completes: "target",
      help:
        "a name that both sides agreed on, or the code that the other side printed; without it, " +
        "print a code",
    }],
    options: [
      {
        ...MEETING_OPTIONS[0]!,
        repeats: false,
        help: "the server where the two sides meet, such as ws://192.0.2.1:3480; has to be named",
        fallback: undefined,
      },
      {
        ...PROXY_OPTION,
        help: "reach the rendezvous through this proxy, as connect does; the punch goes around it",
      },
      STUN_SERVER_OPTION,
      timeoutOption(
        "how long to wait for the other side, and then for the connection",
        "until Ctrl-C, and 30s",
      ),
      ...codeOptions("show no code: name a ROOM"),
      JSON_OPTION,
    ],
    examples: [
      { args: "kitchen --rendezvous ws://192.0.2.1:3480", does: "run it on both machines" },
      { args: "--rendezvous ws://192.0.2.1:3480", does: "print a code for the other machine" },
    ],
    permissions: ["net"],
    printsEvents: true,
  },
  commandGroup({
    name: "ticket",
    summary: "issue further tickets for this peer, list them, or take one back",
    examples: [
      { args: "new --key me.key --once", does: "a ticket for one connection" },
      { args: "list --key me.key", does: "show all of them" },
    ],
    permissions: ["read", "write"],
    subcommands: TICKET_COMMANDS,
  }),
  commandGroup({
    name: "peers",
    summary: "give friends names, for connect and recv, list them, or remove one",
    examples: [
      { args: "add laptop 7-abacus-walrus-zodiac", does: "name the peer that printed this code" },
      { args: "list", does: "show all friends" },
    ],
    permissions: ["read", "write"],
    subcommands: PEERS_COMMANDS,
  }),
  {
    name: "id",
    summary: "print this peer's ID, for --allow",
    operands: [],
    options: [OWN_KEY_OPTION, JSON_OPTION],
    examples: [{ args: "--key me.key", does: "what a friend passes to --allow" }],
    permissions: ["read", "write"],
  },
];
