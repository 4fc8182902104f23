/**
 * The methods of TURN, beside STUN's Binding.
 *
 * @module
 */

/** RFC 8656 §17. */
export const ALLOCATE = 0x003;
/** RFC 8656 §17. */
export const REFRESH = 0x004;
/** RFC 8656 §17: an indication, to the server. */
export const SEND = 0x006;
/** RFC 8656 §17: an indication, from the server. */
export const DATA = 0x007;
/** RFC 8656 §17. */
export const CREATE_PERMISSION = 0x008;
/** RFC 8656 §17. */
export const CHANNEL_BIND = 0x009;
/** RFC 6062 §6.1. */
export const CONNECT = 0x00a;
/** RFC 6062 §6.1. */
export const CONNECTION_BIND = 0x00b;
/** RFC 6062 §6.1: an indication, from the server. */
export const CONNECTION_ATTEMPT = 0x00c;
