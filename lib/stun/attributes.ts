/**
 * STUN attributes as values: those in the tables by name, all others by number.
 *
 * @module
 */

import {
  RFC3489_ATTRIBUTES,
  type Rfc3489AttributeValues,
  RFC5780_ATTRIBUTES,
  type Rfc5780AttributeValues,
  RFC8489_ATTRIBUTES,
  type Rfc8489AttributeValues,
} from "./attribute_tables.ts";
import {
  ATTRIBUTE_HEADER_LENGTH,
  type AttributeRow,
  type AttributeSpan,
  type AttributeTable,
  checkInteger,
  opaque,
} from "./codec.ts";
import { TURN_ATTRIBUTES, type TurnAttributeValues } from "./turn_attributes.ts";

/** The value of each attribute, by its name in the RFC that defines it. */
export interface StunAttributeValues
  extends
    Rfc8489AttributeValues,
    Rfc5780AttributeValues,
    Rfc3489AttributeValues,
    TurnAttributeValues {}

/** The name of an attribute in the tables, such as `"XOR-MAPPED-ADDRESS"`. */
export type StunAttributeName = keyof StunAttributeValues;

/** An attribute in the tables. */
export type NamedStunAttribute = {
  [Name in StunAttributeName]: { readonly type: Name; readonly value: StunAttributeValues[Name] };
}[StunAttributeName];

/** An attribute that is in no table: its type number and its bytes, without padding. */
export interface RawStunAttribute {
  /** 0 to 0xffff; from 0x8000 on, a receiver that does not know it may ignore it. */
  readonly type: number;
  /** At most 65535 bytes. */
  readonly value: Uint8Array;
}

/** One attribute of a message. */
export type StunAttribute = NamedStunAttribute | RawStunAttribute;

/**
 * The type number of an attribute and the codec of its value. A raw attribute may have any number.
 *
 * @throws {RangeError} if the number of a raw attribute is not a whole number from 0 to 0xffff
 */
export function attributeRow(attribute: StunAttribute): AttributeRow<StunAttribute["value"]> {
  if (typeof attribute.type === "number") {
    checkInteger(attribute.type, 0xffff);
    return { code: attribute.type, codec: RAW };
  }
  return TABLE[attribute.type];
}

/**
 * Reads the attribute at `span` in a message.
 *
 * @throws {MalformedMessageError} if the bytes are not a valid value of that attribute
 */
export function readAttribute(message: Uint8Array, span: AttributeSpan): StunAttribute {
  const { code, length } = span;
  const offset = span.offset + ATTRIBUTE_HEADER_LENGTH;
  const name = NAMES.get(code);
  if (name === undefined) return { type: code, value: message.subarray(offset, offset + length) };
  const value = TABLE[name].codec.read(message, { name, offset, length });
  return { type: name, value } as NamedStunAttribute;
}

/** Whether an attribute has this name; narrows its type. */
export function isNamed<Name extends StunAttributeName>(
  attribute: StunAttribute,
  name: Name,
): attribute is StunAttribute & { type: Name; value: StunAttributeValues[Name] } {
  return attribute.type === name;
}

/** The type number of an attribute in the tables. */
export function attributeCode(name: StunAttributeName): number {
  return TABLE[name].code;
}

/** Whether a receiver that does not know this attribute must not process the message: RFC 8489 §14. */
export function isComprehensionRequired(code: number): boolean {
  return code < 0x8000;
}

const TABLE: AttributeTable<StunAttributeValues> = {
  ...RFC8489_ATTRIBUTES,
  ...RFC5780_ATTRIBUTES,
  ...RFC3489_ATTRIBUTES,
  ...TURN_ATTRIBUTES,
};

const NAMES = new Map<number, StunAttributeName>();
for (const name of Object.keys(TABLE) as StunAttributeName[]) NAMES.set(TABLE[name].code, name);

const RAW = opaque();
