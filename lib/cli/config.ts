/**
 * The settings of a user: where to meet, which relay, proxy and key to use, and names for friends. They stand in
 * `config.json` in the platform's place, and are read only where the permission is granted already. Options and variables of
 * the environment come first.
 *
 * @module
 */

import { malformed, undefinedIfMalformed } from "../base/errors.ts";
import {
  configFolder,
  lockPrivateFile,
  readPrivateFile,
  writePrivateFile,
} from "../net/system/private_file.ts";
import { readVariable } from "../net/system/private_input.ts";
import type { Arguments } from "./arguments.ts";
import { decodeConfig, encodeConfig, type FriendEntry, type UserConfig } from "./config_message.ts";
import { URL_VARIABLES } from "./environment.ts";
import { reasonOfFile, UsageError } from "./io.ts";

/**
 * The settings, or none if there is no file or it may not be read.
 *
 * @throws {UsageError} if the file holds something else
 */
export async function readConfig(): Promise<UserConfig> {
  const path = await configPath();
  if (path === undefined) return EMPTY_CONFIG;
  try {
    const text = await readPrivateFile(path, MAX_BYTES);
    if (text === undefined) return EMPTY_CONFIG;
    const config = decodeConfig(text);
    await requireTickets(config);
    return config;
  } catch (error) {
    throw new UsageError(`Cannot use ${path}: ${reasonOfFile(error, path)}`, { cause: error });
  }
}

/**
 * Changes the settings. Of two programs that change them at once, one waits for the other.
 *
 * @throws {UsageError} if the file may not be written, or holds something else
 */
export async function changeConfig(change: (config: UserConfig) => UserConfig): Promise<void> {
  const path = await configPath();
  if (path === undefined) {
    throw new UsageError(
      "there is no place for settings: add --allow-env=HOME,XDG_CONFIG_HOME,APPDATA, and check that HOME is set",
    );
  }
  try {
    using _lock = await lockPrivateFile(path);
    await writePrivateFile(path, encodeConfig(change(await readConfig())));
  } catch (error) {
    if (!(error instanceof Error) || error instanceof UsageError) throw error;
    throw new UsageError(error.message, { cause: error });
  }
}

/** Fills in the options that were not given from the settings. */
export async function withConfig(given: Arguments): Promise<Arguments> {
  const config = await readConfig();
  const values = new Map(given.values);
  const lists = new Map(given.lists);
  const key = values.get("key") ?? config.key;
  if (key !== undefined) values.set("key", key);
  const isSet = async (name: keyof typeof URL_VARIABLES) =>
    (lists.get(name)?.length ?? 0) > 0 || await readVariable(URL_VARIABLES[name]) !== undefined;
  const saysWhere = given.flags.has("hand") || given.flags.has("lan") ||
    await isSet("rendezvous") || await isSet("mqtt");
  if (!saysWhere && lists.has("rendezvous")) {
    lists.set("rendezvous", config.rendezvous).set("mqtt", config.mqtt);
  }
  if (lists.has("turn") && !await isSet("turn")) lists.set("turn", config.turn);
  return { ...given, values, lists };
}

/** The friend of this name. */
export async function findFriend(name: string): Promise<FriendEntry | undefined> {
  return (await readConfig()).peers.get(name);
}

/** @throws {MalformedMessageError} if the ticket of a friend is not one */
async function requireTickets({ peers }: UserConfig): Promise<void> {
  if (peers.size === 0) return;
  const { decodeTicket } = await import("../peer/ticket.ts");
  for (const [name, { ticket }] of peers) {
    if (undefinedIfMalformed(() => decodeTicket(ticket)) !== undefined) continue;
    throw malformed("settings", `peers.${name}.ticket is not a ticket, or a damaged one`);
  }
}

async function configPath(): Promise<string | undefined> {
  const folder = await configFolder("punchline");
  return folder === undefined ? undefined : `${folder}/config.json`;
}

/** No settings. */
const EMPTY_CONFIG: UserConfig = {
  rendezvous: [],
  mqtt: [],
  turn: [],
  proxy: undefined,
  key: undefined,
  peers: new Map(),
};

/** Chosen by us: a thousand friends. */
const MAX_BYTES = 1_048_576;
