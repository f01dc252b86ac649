/**
 * What a picture file says of itself before anything is decoded: format, size and EXIF orientation of JPEG, PNG and WebP.
 *
 * Read first so that a file that claims a billion pixels is refused before memory is spent on it, and so that every decoder behind
 * it is given the same orientation. Sources: ITU-T T.81 B.2.2 (JPEG frame header), PNG 3rd ed. 11.2.1 and 11.3.3.3 (IHDR, eXIf),
 * RFC 9649 (WebP), CIPA DC-008 4.6.2 (EXIF's TIFF directory).
 */
import { dataView } from '../core/bytes.ts';
import type { Orientation } from './picture.ts';

export type PictureFormat = 'jpeg' | 'png' | 'webp';

export interface PictureHeader {
  readonly format: PictureFormat;
  /** As stored: before the orientation is applied. */
  readonly width: number;
  readonly height: number;
  readonly orientation: Orientation;
}

/** The header, or undefined where the bytes are none of the three formats or end before their size is told. */
export function readPictureHeader(bytes: Uint8Array): PictureHeader | undefined {
  const view = dataView(bytes);
  const header = readJpeg(view) ?? readPng(view) ?? readWebp(view);
  return header !== undefined && header.width > 0 && header.height > 0 ? header : undefined;
}

function readJpeg(view: DataView): PictureHeader | undefined {
  if (view.byteLength < 4 || view.getUint16(0) !== 0xffd8) return undefined;
  let orientation: Orientation = 1;
  for (let at = 2; at + 9 <= view.byteLength; ) {
    if (view.getUint8(at) !== 0xff) return undefined;
    const marker = view.getUint8(at + 1);
    if (marker === 0xff) {
      at++; // a fill byte before the marker
      continue;
    }
    if (isStandaloneMarker(marker)) {
      at += 2;
      continue;
    }
    const length = view.getUint16(at + 2);
    if (length < 2) return undefined;
    if (isFrameHeader(marker)) {
      return { format: 'jpeg', height: view.getUint16(at + 5), width: view.getUint16(at + 7), orientation };
    }
    if (marker === 0xda || marker === 0xd9) return undefined;
    if (marker === 0xe1 && text(view, at + 4, 4) === 'Exif')
      orientation = readOrientation(view, at + 10, at + 2 + length);
    at += 2 + length;
  }
  return undefined;
}

/** TEM and RST0…RST7 carry no length. */
const isStandaloneMarker = (marker: number): boolean => marker === 0x01 || (marker >= 0xd0 && marker <= 0xd7);

/** SOF0…SOF15, without DHT (C4), JPG (C8) and DAC (CC) that lie among them. */
const isFrameHeader = (marker: number): boolean =>
  marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;

function readPng(view: DataView): PictureHeader | undefined {
  if (view.byteLength < 33 || text(view, 0, 8) !== '\x89PNG\r\n\x1a\n' || text(view, 12, 4) !== 'IHDR')
    return undefined;
  let orientation: Orientation = 1;
  for (let at = 33; at + 12 <= view.byteLength; ) {
    const length = view.getUint32(at);
    const type = text(view, at + 4, 4);
    if (type === 'eXIf') orientation = readOrientation(view, at + 8, at + 8 + length);
    if (type === 'IEND') break;
    at += 12 + length;
  }
  return { format: 'png', width: view.getUint32(16), height: view.getUint32(20), orientation };
}

function readWebp(view: DataView): PictureHeader | undefined {
  if (view.byteLength < 30 || text(view, 0, 4) !== 'RIFF' || text(view, 8, 4) !== 'WEBP') return undefined;
  const uint24 = (at: number) => view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
  switch (text(view, 12, 4)) {
    case 'VP8 ':
      return {
        format: 'webp',
        width: view.getUint16(26, true) & 0x3fff,
        height: view.getUint16(28, true) & 0x3fff,
        orientation: 1,
      };
    case 'VP8L': {
      const bits = view.getUint32(21, true);
      return { format: 'webp', width: (bits & 0x3fff) + 1, height: ((bits >>> 14) & 0x3fff) + 1, orientation: 1 };
    }
    case 'VP8X':
      return { format: 'webp', width: uint24(24) + 1, height: uint24(27) + 1, orientation: readWebpOrientation(view) };
    default:
      return undefined;
  }
}

function readWebpOrientation(view: DataView): Orientation {
  for (let at = 12; at + 8 <= view.byteLength; ) {
    const length = view.getUint32(at + 4, true);
    // Some writers keep JPEG's "Exif\0\0" in front of the directory.
    const skip = text(view, at + 8, 4) === 'Exif' ? 6 : 0;
    if (text(view, at, 4) === 'EXIF') return readOrientation(view, at + 8 + skip, at + 8 + length);
    at += 8 + length + (length & 1);
  }
  return 1;
}

/** Tag 0x0112 of the first directory of a TIFF header that starts at `start`; 1 where it is absent or damaged. */
function readOrientation(view: DataView, start: number, end: number): Orientation {
  const limit = Math.min(end, view.byteLength);
  if (start + 8 > limit) return 1;
  const order = view.getUint16(start);
  if (order !== 0x4949 && order !== 0x4d4d) return 1;
  const little = order === 0x4949;
  const directory = start + view.getUint32(start + 4, little);
  if (directory + 2 > limit) return 1;
  const entries = view.getUint16(directory, little);
  for (let i = 0; i < entries; i++) {
    const entry = directory + 2 + 12 * i;
    if (entry + 12 > limit) return 1;
    if (view.getUint16(entry, little) !== 0x0112) continue;
    const value = view.getUint16(entry + 8, little);
    return value >= 1 && value <= 8 ? (value as Orientation) : 1;
  }
  return 1;
}

/** Latin-1 text; shorter where the file ends. */
function text(view: DataView, at: number, length: number): string {
  let out = '';
  for (let i = at; i < Math.min(at + length, view.byteLength); i++) out += String.fromCharCode(view.getUint8(i));
  return out;
}
