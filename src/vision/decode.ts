/**
 * Picture files to pixels: JPEG, PNG and WebP bytes in, an upright 8-bit RGB picture out.
 *
 * Three decoders stand behind one function: the browser's own, sharp where it is installed, and jpeg-js with fast-png where it is not.
 * Pixels mean what PIL's `convert('RGB')` makes of them: alpha is dropped, not blended; grey is repeated; a palette is looked up;
 * colour profiles are not applied. PNG pixels are equal from all decoders; JPEG pixels differ by a level or two between sharp
 * (libjpeg-turbo, as in PIL and OpenCV) and jpeg-js, more where colour was stored at half size: jpeg-js repeats it, sharp interpolates.
 */
import { dataView } from '../core/bytes.ts';
import { ModelError } from '../core/errors.ts';
import { checkInflatedSize } from '../host/inflate.ts';
import { type Picture, uprightPicture } from './picture.ts';
import { type PictureFormat, type PictureHeader, readPictureHeader } from './picture-header.ts';

export interface DecodeOptions {
  /** Named in errors. */
  readonly file: string;
  /** Pictures with more pixels are refused before they are decoded. */
  readonly maxPixels?: number;
  /** Leaves sharp aside even where it is installed. */
  readonly withoutSharp?: boolean;
}

/** Twice a 100-megapixel camera: about 600 MB of RGB. */
const DEFAULT_MAX_PIXELS = 200_000_000;

/** The chunk type of a PNG's compressed rows. */
const IDAT = 0x49444154;

/** Pixels as a decoder gives them: `channels` bytes a pixel (grey, grey + alpha, RGB, RGBA), not yet upright. */
interface RawPixels {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly data: Uint8Array | Uint8ClampedArray;
}

/**
 * Decodes a JPEG, PNG or WebP file and applies its EXIF orientation.
 * Throws ModelError `picture-decode` where the bytes are no picture, damaged, or larger than `maxPixels`,
 * and `package-missing` for WebP where neither a browser nor sharp is there to decode it.
 */
export async function decodePicture(bytes: Uint8Array, options: DecodeOptions): Promise<Picture> {
  const header = readPictureHeader(bytes);
  if (header === undefined) {
    throw new ModelError('picture-decode', `${options.file}: not a JPEG, PNG or WebP picture (${bytes.length} bytes)`, {
      hint: 'Convert the picture to one of these formats, or check that the file is complete.',
    });
  }
  const maxPixels = options.maxPixels ?? DEFAULT_MAX_PIXELS;
  if (header.width * header.height > maxPixels) {
    throw new ModelError(
      'picture-decode',
      `${options.file}: the ${header.format.toUpperCase()} has ${header.width}x${header.height} pixels, more than the limit of ${maxPixels}`,
      { hint: 'Make the picture smaller, or raise maxPixels.' },
    );
  }
  try {
    // A browser turns the picture itself, and cannot be kept from it.
    if (typeof createImageBitmap === 'function') return toRgb(await decodeInBrowser(bytes, header.format));
    return uprightPicture(toRgb(await decodePixels(bytes, header, options)), header.orientation);
  } catch (cause) {
    if (cause instanceof ModelError) throw cause;
    const reason = (cause instanceof Error ? cause.message : String(cause)).split('\n')[0];
    throw new ModelError(
      'picture-decode',
      `${options.file}: the ${header.format.toUpperCase()} does not decode: ${reason}`,
      {
        hint: 'The file is damaged or cut off; save it again.',
        cause,
      },
    );
  }
}

async function decodePixels(bytes: Uint8Array, header: PictureHeader, options: DecodeOptions): Promise<RawPixels> {
  const sharp = options.withoutSharp ? undefined : await importSharp();
  if (sharp !== undefined) return decodeWithSharp(sharp, bytes);
  switch (header.format) {
    case 'jpeg':
      return decodeJpeg(bytes, header);
    case 'png':
      return decodePng(bytes, header);
    case 'webp':
      throw new ModelError('package-missing', `${options.file}: decoding WebP needs the package sharp`, {
        hint: 'npm i sharp',
      });
    default:
      return header.format satisfies never;
  }
}

async function decodeInBrowser(bytes: Uint8Array, format: PictureFormat): Promise<RawPixels> {
  const blob = new Blob([bytes as Uint8Array<ArrayBuffer>], { type: `image/${format}` });
  const bitmap = await createImageBitmap(blob, {
    premultiplyAlpha: 'none',
    colorSpaceConversion: 'none',
  });
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  if (context === null) throw new Error('no 2D canvas here');
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { width, height, channels: 4, data: context.getImageData(0, 0, width, height).data };
}

type Sharp = typeof import('sharp')['default'];

/** sharp is an optional peer: undefined where it is not installed or has no binary for this machine. */
async function importSharp(): Promise<Sharp | undefined> {
  try {
    return (await import('sharp')).default;
  } catch {
    return undefined;
  }
}

async function decodeWithSharp(sharp: Sharp, bytes: Uint8Array): Promise<RawPixels> {
  // The header's size was checked already; sharp's own limit would only repeat it with another number.
  const pipeline = sharp(bytes, { limitInputPixels: false, failOn: 'error', ignoreIcc: true, autoOrient: false });
  const { data, info } = await pipeline
    .toColourspace('srgb')
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true });
  return { width: info.width, height: info.height, channels: info.channels, data };
}

async function decodeJpeg(bytes: Uint8Array, header: PictureHeader): Promise<RawPixels> {
  const { decode } = await import('jpeg-js');
  const megapixels = Math.ceil((header.width * header.height) / 1e6);
  const { width, height, data } = decode(bytes, {
    useTArray: true,
    formatAsRGBA: false,
    tolerantDecoding: false,
    maxResolutionInMP: megapixels,
    // Coefficients, component planes and output of one picture, with room to spare.
    maxMemoryUsageInMB: 64 + megapixels * 32,
  });
  return { width, height, channels: 3, data };
}

async function decodePng(bytes: Uint8Array, header: PictureHeader): Promise<RawPixels> {
  checkPngRows(bytes, header);
  const { decode, convertIndexedToRgb } = await import('fast-png');
  const png = decode(bytes);
  if (png.width !== header.width || png.height !== header.height) throw new Error('two headers that differ');
  if (png.palette !== undefined) {
    return { width: png.width, height: png.height, channels: png.palette[0].length, data: convertIndexedToRgb(png) };
  }
  return {
    width: png.width,
    height: png.height,
    channels: png.channels,
    data: to8Bit(png.data, png.depth, png.channels, png.width),
  };
}

/**
 * Throws where the PNG's compressed rows are more than its header allows: fast-png would inflate gigabytes before it looked.
 * At most eight bytes a pixel (RGBA of 16 bits) and a filter byte a row, of which interlacing has up to seven for one.
 */
function checkPngRows(bytes: Uint8Array, { width, height }: PictureHeader): void {
  const view = dataView(bytes);
  const parts: Uint8Array[] = [];
  for (let at = 8; at + 12 <= bytes.length; at += 12 + view.getUint32(at)) {
    if (view.getUint32(at + 4) === IDAT) parts.push(bytes.subarray(at + 8, at + 8 + view.getUint32(at)));
  }
  checkInflatedSize(concatBytes(parts), width * height * 8 + height * 7 + 64);
}

function concatBytes(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** Grey of 1, 2 or 4 bits spread to 0…255 (rows are padded to whole bytes); 16 bits cut to their upper 8. */
function to8Bit(data: ArrayLike<number>, depth: number, channels: number, width: number): Uint8Array {
  if (depth === 8) return data as Uint8Array;
  if (depth === 16) return Uint8Array.from(data, (sample) => sample >> 8);
  const samples = width * channels;
  const rowBytes = Math.ceil((samples * depth) / 8);
  const rows = data.length / rowBytes;
  const top = (1 << depth) - 1;
  const out = new Uint8Array(samples * rows);
  for (let y = 0; y < rows; y++) {
    for (let i = 0; i < samples; i++) {
      const bit = i * depth;
      const shift = 8 - depth - (bit & 7);
      out[y * samples + i] = (((data[y * rowBytes + (bit >> 3)] >> shift) & top) * 255) / top;
    }
  }
  return out;
}

function toRgb({ width, height, channels, data }: RawPixels): Picture {
  const pixels = width * height;
  if (data.length !== pixels * channels) throw new Error(`${data.length} samples for ${width}x${height}x${channels}`);
  if (channels === 3) return { width, height, rgb: new Uint8Array(data.buffer, data.byteOffset, data.length) };
  const rgb = new Uint8Array(pixels * 3);
  const green = channels >= 3 ? 1 : 0;
  const blue = channels >= 3 ? 2 : 0;
  for (let i = 0; i < pixels; i++) {
    rgb[3 * i] = data[channels * i];
    rgb[3 * i + 1] = data[channels * i + green];
    rgb[3 * i + 2] = data[channels * i + blue];
  }
  return { width, height, rgb };
}
