/**
 * A whole file as memory without reading it: pages of the system's own cache of the file, the same for all processes that map it. They are
 * fetched when they are touched, and can be dropped and fetched again.
 *
 * So the file must stay as it is meanwhile. Replacing it (a new file that takes the name, as Hotrod writes all of its files) is harmless: the
 * old one stays until nobody maps it. Writing into it changes what is read, and cutting it short ends the process with SIGBUS.
 */
import { openNativeSystem } from './native-system.ts';
import { readSharedFile, withDescriptor } from './shared-file.ts';

/** Zeros behind the file, so that vectors may be read past its end. */
const BEHIND = 64;

/** Buffers over mapped files: like shared memory nothing can take them away while somebody has them. */
const mapped = new WeakSet<ArrayBufferLike>();
const unmapping = new FinalizationRegistry<() => void>((unmap) => unmap());

/** Whether the bytes stay where they are as long as somebody has them: shared memory, or a mapped file. */
export const staysInPlace = ({ buffer }: Uint8Array): boolean =>
  (typeof SharedArrayBuffer !== 'undefined' && buffer instanceof SharedArrayBuffer) || mapped.has(buffer);

/** The file's bytes mapped, or read into shared memory where this system maps none; `BEHIND` zeros follow. Throws as Node does. */
export async function mapOrReadFile(file: string): Promise<Uint8Array> {
  const system = await openNativeSystem();
  if (typeof system === 'string' || !system.mapFile) return readSharedFile(file);
  const { mapFile } = system;
  const bytes = withDescriptor(file, (descriptor, size) => {
    if (size === 0) return undefined;
    try {
      const address = mapFile(descriptor, size, BEHIND);
      const buffer = system.ffi.viewOf(address, size + BEHIND);
      mapped.add(buffer);
      unmapping.register(buffer, () => system.unmapPages(address, size + BEHIND));
      return new Uint8Array(buffer, 0, size);
    } catch {
      // A pipe, a file system that maps nothing, no room for more: reading says what is wrong.
      return undefined;
    }
  });
  return bytes ?? readSharedFile(file);
}
