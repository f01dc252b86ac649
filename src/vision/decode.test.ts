import { deflateSync } from 'node:zlib';
import fc from 'fast-check';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { noisePicture } from '../../tests/pictures.ts';
import { ModelError } from '../core/errors.ts';
import { decodePicture } from './decode.ts';
import { readPictureHeader } from './picture-header.ts';

const { width, height, rgb } = noisePicture(31, 22, 3);
const source = () => sharp(rgb, { raw: { width, height, channels: 3 } });
const files = {
  png: new Uint8Array(await source().png().toBuffer()),
  jpeg: new Uint8Array(await source().jpeg({ quality: 95 }).toBuffer()),
  progressive: new Uint8Array(await source().jpeg({ progressive: true }).toBuffer()),
  webp: new Uint8Array(await source().webp({ lossless: true }).toBuffer()),
};
/** The checksum of PNG chunks, ISO 3309. */
function crc32(bytes: Uint8Array): number {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
const error = async (bytes: Uint8Array, options: { withoutSharp?: boolean; maxPixels?: number } = {}) => {
  const thrown: unknown = await decodePicture(bytes, { file: 'a.bin', ...options }).catch((e: unknown) => e);
  expect(thrown).toBeInstanceOf(ModelError);
  expect((thrown as ModelError).message).toContain('a.bin');
  return thrown as ModelError;
};

test.each(Object.entries(files))('%s has its size in the header', (_, bytes) => {
  expect(readPictureHeader(bytes)).toMatchObject({ width, height, orientation: 1 });
});

test('lossless formats decode to the pixels they were made from', async () => {
  expect(await decodePicture(files.png, { file: 'x.png' })).toEqual({ width, height, rgb });
  expect(await decodePicture(files.png, { file: 'x.png', withoutSharp: true })).toEqual({ width, height, rgb });
  expect(await decodePicture(files.webp, { file: 'x.webp' })).toEqual({ width, height, rgb });
});

describe('what cannot be decoded', () => {
  test('neither of the formats', async () => {
    expect((await error(new Uint8Array(100))).code).toBe('picture-decode');
    expect((await error(new Uint8Array(0))).code).toBe('picture-decode');
  });
  test.each(['png', 'jpeg', 'progressive', 'webp'] as const)('a %s cut short', async (format) => {
    expect((await error(files[format].subarray(0, files[format].length >> 1))).code).toBe('picture-decode');
  });
  test('WebP without sharp names what to install', async () => {
    expect(await error(files.webp, { withoutSharp: true })).toMatchObject({
      code: 'package-missing',
      hint: 'npm i sharp',
    });
  });
  test('a PNG whose rows inflate to more than its size says', async () => {
    const chunk = (type: string, data: Uint8Array) => {
      const body = Buffer.concat([Buffer.from(type), data]);
      const frame = Buffer.alloc(8);
      frame.writeUInt32BE(data.length, 0);
      frame.writeUInt32BE(crc32(body), 4);
      return Buffer.concat([frame.subarray(0, 4), body, frame.subarray(4)]);
    };
    const header = Uint8Array.of(0, 0, 0, 2, 0, 0, 0, 2, 8, 0, 0, 0, 0);
    const png = (rows: number) =>
      new Uint8Array(
        Buffer.concat([
          files.png.subarray(0, 8),
          chunk('IHDR', header),
          chunk('IDAT', deflateSync(new Uint8Array(rows))),
          chunk('IEND', new Uint8Array(0)),
        ]),
      );
    expect((await decodePicture(png(6), { file: 'small.png', withoutSharp: true })).rgb).toEqual(new Uint8Array(12));
    expect((await error(png(50_000_000), { withoutSharp: true })).code).toBe('picture-decode');
  });
  test('more pixels than allowed, by the header alone', async () => {
    const bomb = files.png.slice();
    new DataView(bomb.buffer).setUint32(16, 100_000);
    new DataView(bomb.buffer).setUint32(20, 100_000);
    expect((await error(bomb)).message).toContain('100000x100000');
    expect((await error(files.jpeg, { maxPixels: 100 })).message).toContain('limit of 100');
  });
});

test.each([false, true])(
  'damaged files give a picture of the stated size or a ModelError (withoutSharp %s)',
  async (withoutSharp) => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(files.png, files.jpeg, files.progressive),
        fc.array(fc.tuple(fc.nat(1e6), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        async (file, changes) => {
          const bytes = file.slice();
          for (const [at, value] of changes) bytes[at % bytes.length] = value;
          try {
            const picture = await decodePicture(bytes, { file: 'x', withoutSharp, maxPixels: 1e6 });
            expect(picture.rgb.length).toBe(picture.width * picture.height * 3);
          } catch (thrown) {
            expect(thrown).toBeInstanceOf(ModelError);
          }
        },
      ),
      { numRuns: 300 },
    );
  },
);
