/**
 * Test vectors of two implementations of Noise, those of the suite `25519_ChaChaPoly_SHA256`:
 *
 * - Cacophony (https://github.com/haskell-cryptography/cacophony, `vectors/cacophony.txt`; public domain), as
 *   https://github.com/mcginty/snow keeps it, with handshake hashes, in `tests/vectors/cacophony.txt`
 * - Noise-C (https://github.com/rweather/noise-c, `tests/vector/noise-c-basic.txt`; MIT, Copyright (C) 2016 Southern
 *   Storm Software, Pty Ltd.)
 *
 * Both have the same keys and payloads and differ in the prologue. That has no part in the keys, so that what follows
 * the handshake is the same in both. Noise-C's license:
 *
 * Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
 * documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
 * rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
 * persons to whom the Software is furnished to do so, subject to the following conditions:
 *
 * The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
 * Software.
 *
 * THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
 * WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
 * COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
 * OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
 *
 * @module
 */

import type { PatternName } from "../../lib/noise/handshake.ts";

/** The handshake of one vector, in hexadecimal. */
export interface HandshakeVector {
  readonly source: "Cacophony" | "Noise-C";
  readonly pattern: PatternName;
  readonly prologue: string;
  /** The initiator's first message, then in turns. */
  readonly messages: readonly string[];
  readonly handshakeHash?: string;
  /**
   * What Cacophony's file has for a handshake hash: that before the last message. For NKpsk2 it has neither that nor
   * the last one.
   */
  readonly earlierHash?: string;
}

export const INITIATOR_STATIC = "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1";
export const INITIATOR_EPHEMERAL =
  "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a";
export const RESPONDER_STATIC = "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893";
export const RESPONDER_EPHEMERAL =
  "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b";
export const PSK = "54686973206973206d7920417573747269616e20706572737065637469766521";

/** Of each message, those of the handshake and those after it. */
export const PAYLOADS: readonly string[] = [
  "4c756477696720766f6e204d69736573",
  "4d757272617920526f746862617264",
  "462e20412e20486179656b",
  "4361726c204d656e676572",
  "4a65616e2d426170746973746520536179",
  "457567656e2042f6686d20766f6e2042617765726b",
];

/** What follows the handshake, in turns as before. */
export const TRANSPORT: Readonly<Record<string, readonly string[]>> = {
  NN: [
    "eb1a3e3d80c1792b1bb9cb0e1382f8d8322bfb1ca7c4c8517bb686",
    "c781b198d2a974eb1da2c7d518c000cf6396de87ca540963c03713",
    "c77048eb6919fdfe8fe45842bfc5b8d1ff50d1e20c717453ccdfe6176d805b996d",
    "61834d7069dcfb7a1adf8d5ac910f83fa04c73a67789895c6f5f995c5db2ce88e49b124178",
  ],
  NK: [
    "a62de29ce27cb80245d440d986ed816c156e9d757d7008df2198b0",
    "174a35f11c689f4530d7208618e0564ae12f2f50ba8eb4df5382ff",
    "337e475ebb8eae60f91974c4e455a5af38d1d8628d1803b160d60442874b0a1777",
    "047e80e060b7bb08b53c5a23dfe9920cae135b9d1dc6302fc475003062723700366346ac9d",
  ],
  NKpsk2: [
    "129789ee959ffef891a580c6fc073cf91d706e26602cc096c35d84",
    "36b35298bc84e0a24644e309563b2d6c3f9a31dc142b122e0266db",
    "4b080dfd53e42e3f45d96f75f15fdbcce95a75fb83c51ee366281528204c1bf0b4",
    "0bce31a0c1c37626c3e4a0000afa7e4e06636e1bbc44fc1a24e18e373f07c8ad6e3a03b877",
  ],
  KK: [
    "966b05bc69ec01b8454d3160a214e6f24a3d884eb31ec2408af63f",
    "0ad887fba4f611bbb4afe44ba3556b8164332ca7d5934634d63d80",
    "012b28ae646ae7830e2c5472cb023eab071c1db3d8413ec69b513b83832f974c2d",
    "bb3e6a48160d9c5971d37f975727294e0d868342db31832e54d07191ab0ca3c3703b5ed3d9",
  ],
  IK: [
    "050e9f3c8fac16b68dbce8f8c4bfbf6617c897f9ada4aa29aa19c8",
    "344233a6cabb7141d80f3da2fedc311d9646bbb0f505afe403a667",
    "62cdeeb172ad7ade7aa7d9e069da5790f12331bfa00177787a1d0810c67dc3b2b4",
    "029bead1b40992327044d409d9a1f3ad8f36c3c452775d557e18bbeb2e8dfcead32d514024",
  ],
  XX: [
    "96763ed773f8e47bb3712f0e29b3060ffc956ffc146cee53d5e1df",
    "3e40f15f6f3a46ae446b253bf8b1d9ffb6ed9b174d272328ff91a7e2e5c79c07f5",
    "eb3f3515110702e047a6c9da4478b6ead94873c11c0f2d710ddb3f09fce024b3a58502ae3f",
  ],
  IX: [
    "90a3ae2a6f1c0f3c2b7a81c5ddfb3a068376a18b9267745459497b",
    "a54a54e469da6914ec8edeb1f2c1fc7434ab6a4834a0736b34fd9e",
    "8c4238fcd84fb9bb2be8cd2e3de1bb0098ad04b67c5b2f51275db91aa3641eca38",
    "39a819a8befe3e151ccb045ad6adb3590f3326936e8402e1e896435b3d543fe4cd423af3b7",
  ],
};

const CACOPHONY = { source: "Cacophony", prologue: "4a6f686e2047616c74" } as const;
const NOISE_C = { source: "Noise-C", prologue: "50726f6c6f677565313233" } as const;

export const HANDSHAKES: readonly HandshakeVector[] = [
  {
    ...CACOPHONY,
    pattern: "NN",
    messages: [
      "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79444c756477696720766f6e204d69736573",
      "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843a0ff96bdf86b579ef7dbf94e812a7470b903c20a85a87e3a1fe863264ae547",
    ],
    earlierHash: "443165f72d404a81932d277075e873dfac74456aa1f866ee3781f42de3675cce",
  },
  {
    ...CACOPHONY,
    pattern: "NK",
    messages: [
      "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79448134d00711fdb390a0d178fa008f6d47d2891e5ea18ae136c3b4c23ac384efb0",
      "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f1448088438ea16e3701bc0d77744f117bee22451c9afa7f4cdbbcff00c04a8ee0913c88",
    ],
    earlierHash: "683778796d434d6f0c19aed600b67a9a674712c6776c323b79c728eede643295",
  },
  {
    ...CACOPHONY,
    pattern: "NKpsk2",
    messages: [
      "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944acda3057fb216b0fb4c6d571e776b426612636e99cf4ac1de41442fb2128ca29",
      "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f14480884330fcb4ab2b68a6f612414145258aa079533be57174ec7ae7c76845312a3f07",
    ],
  },
  {
    ...CACOPHONY,
    pattern: "KK",
    messages: [
      "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79440177015efc1fe7a37c629af7120a96274e6ab7afcc9261901d0e09ae32a5bb96",
      "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843b274d3429adc47ca093ba63ef90f8da89fda108db471dccfa4894aa7b00003",
    ],
    earlierHash: "1f2be433153b6926a738175eaf8737e680999f8df06a729256a29a9c21be7476",
  },
  {
    ...CACOPHONY,
    pattern: "IK",
    messages: [
      "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944718da798efbcd91528520204f904b9bd6c7413dccdc214d951e15253e39987f18146e8cd0873654207148333479d4d16c289f0294b29960a72f48e0b7bba2e89083169825e59642148d492020664ccf7",
      "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f1448088435361e70b2ed446e6c9ec387d1d6b3b840f194e373979d241b203c4acafccf5",
    ],
    earlierHash: "49fb1c059808ceb4f40d9f0ffc65d71b6cc3b6e2d02d5db7f698137e0b068799",
  },
  {
    ...CACOPHONY,
    pattern: "XX",
    messages: [
      "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79444c756477696720766f6e204d69736573",
      "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f14480884381cbad1f276e038c48378ffce2b65285e08d6b68aaa3629a5a8639392490e5b9bd5269c2f1e4f488ed8831161f19b7815528f8982ffe09be9b5c412f8a0db50f8814c7194e83f23dbd8d162c9326ad",
      "c7195ffacac1307ff99046f219750fc47693e23c3cb08b89c2af808b444850a80ae475b9df0f169ae80a89be0865b57f58c9fea0d4ec82a286427402f113e4b6ae769a1d95941d49b25030",
    ],
    earlierHash: "e37b138ecd936a2b3c3532fb2cc499bdee2746dbfc19e9490964c79fd14bd88b",
  },
  {
    ...CACOPHONY,
    pattern: "IX",
    messages: [
      "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79446bc3822a2aa7f4e6981d6538692b3cdf3e6df9eea6ed269eb41d93c22757b75a4c756477696720766f6e204d69736573",
      "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843db451ba0cc81ba55f01e5aeb04e3748f337344ed2a494219a3fae8ef756f95054f06f10bbe3e8a27bdf263fc314e16c300bf822646c34d35641d9635ea993c4694966ab721281c5093bc5d3831bf0a",
    ],
    earlierHash: "3a1c3ee10dc1ca3c1948c31d471a53be3412411a68aef95f054eb0c24e93c588",
  },
  {
    ...NOISE_C,
    pattern: "NN",
    messages: [
      "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79444c756477696720766f6e204d69736573",
      "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843a0ff96bdf86b579ef7dbf94e812a7481d8f4c68907c4aa441057a30cebc1b0",
    ],
    handshakeHash: "ac2ae5a7e8ea36ee502bf8647fda092657082519fdae56dd8014684cfca9fe96",
  },
  {
    ...NOISE_C,
    pattern: "NK",
    messages: [
      "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79448134d00711fdb390a0d178fa008f6d47f49a76e297aa164052a3d842aa8ff7d8",
      "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f1448088438ea16e3701bc0d77744f117bee22451628b075da65d4114bd343e2d93006c4",
    ],
    handshakeHash: "d5c4ce9ffe8bcd940aa50f842a5d4d90d3f7163f4b3916deb87a5d747712d718",
  },
  {
    ...NOISE_C,
    pattern: "KK",
    messages: [
      "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79440177015efc1fe7a37c629af7120a962783d1e99e9766611dd7902fba7661273c",
      "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843b274d3429adc47ca093ba63ef90f8dd2770c7ef5c2c78dc0ba79f2ce665628",
    ],
    handshakeHash: "36570fff832ae7c579a72bb814d60023a94fad1c618ce8fa4a358c6eadcd97f6",
  },
  {
    ...NOISE_C,
    pattern: "IK",
    messages: [
      "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944718da798efbcd91528520204f904b9bd6c7413dccdc214d951e15253e39987f1508bfd10ad143e921328082a3c3b9e50c289f0294b29960a72f48e0b7bba2e89f20d17ed0e4dcf718749c95a941a620e",
      "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f1448088435361e70b2ed446e6c9ec387d1d6b3b3380e00f0055bd7b310e12947fbab8e7",
    ],
    handshakeHash: "3d8748e8f966293aeab5cd9a2e42ad0e8d0ebd83fa78957c4664bc6718613eeb",
  },
  {
    ...NOISE_C,
    pattern: "XX",
    messages: [
      "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79444c756477696720766f6e204d69736573",
      "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f14480884381cbad1f276e038c48378ffce2b65285e08d6b68aaa3629a5a8639392490e5b94a6d8798832d5372f220f161d9c2df035528f8982ffe09be9b5c412f8a0db5d21351f20af1370d0bf8ef1a8c59a30e",
      "c7195ffacac1307ff99046f219750fc47693e23c3cb08b89c2af808b444850a8589981dfbd651e6ff4724a781cc2aa6158c9fea0d4ec82a286427484c5b8c8123a7a6002b1de9f9775fc97",
    ],
    handshakeHash: "852a28d2146785c54bd8334f4e460c80d7fe4fd0cc5bc0abef2a24a3c4d44d5f",
  },
  {
    ...NOISE_C,
    pattern: "IX",
    messages: [
      "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79446bc3822a2aa7f4e6981d6538692b3cdf3e6df9eea6ed269eb41d93c22757b75a4c756477696720766f6e204d69736573",
      "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843db451ba0cc81ba55f01e5aeb04e3748f337344ed2a494219a3fae8ef756f9505dd7ddecea15fe10640118b1e4ef3d25f00bf822646c34d35641d9635ea993c84504874d990b3b8e784d661c6e324aa",
    ],
    handshakeHash: "a8e5fadcb5e8d6b7e73774cbef57cd7042c7c3dac9a6d3ab3888b9c21af6dd24",
  },
];
