/**
 * The user's cache: files that can be made again, by key, in the folder that the platform has for such.
 *
 * A file appears whole or not at all, but a crash may leave one with wrong bytes: whoever reads checks them (`sealed.ts`). Files may hold
 * code that will run, so where the system tells who owns what (not Windows, whose folders are the user's own by their access lists), a
 * folder or a file that is another user's, or that others may write, is as if it were not there. Nothing here throws: a folder that
 * cannot be used is a cache that forgets.
 */
import { knob } from '../core/knobs.ts';
import { nodeModule } from './node-module.ts';

/** Bits of a file's mode: group and others may write it. */
const BY_OTHERS = 0o022;

export interface CacheFolder {
  readonly folder: string;
  /** Undefined where there is no such file. `key` is a file name. */
  read(key: string): Uint8Array | undefined;
  write(key: string, bytes: Uint8Array): void;
  /** Removes files until all together have at most so many bytes, those not used for longest first. */
  trim(maxBytes: number): void;
  remove(key: string): void;
}

/** The parts of Node's modules that are used, typed by hand so that browsers' builds need no Node types. */
interface NodeStat {
  readonly size: number;
  readonly mtimeMs: number;
  readonly mode: number;
  readonly uid: number;
  isDirectory(): boolean;
  isFile(): boolean;
}
interface NodeFs {
  readonly constants: { readonly O_RDONLY: number; readonly O_NOFOLLOW?: number };
  openSync(file: string, flags: number): number;
  fstatSync(descriptor: number): NodeStat;
  closeSync(descriptor: number): void;
  readFileSync(descriptor: number): Uint8Array;
  writeFileSync(file: string, bytes: Uint8Array, options: { mode: number }): void;
  renameSync(from: string, to: string): void;
  rmSync(file: string, options: { force: true }): void;
  mkdirSync(folder: string, options: { recursive: true; mode: number }): void;
  readdirSync(folder: string): string[];
  lstatSync(file: string): NodeStat;
  utimesSync(file: string, atime: number, mtime: number): void;
}
interface NodeOs {
  platform(): string;
  homedir(): string;
}
interface NodePath {
  join(...parts: string[]): string;
  isAbsolute(path: string): boolean;
}
interface NodeProcess {
  readonly pid: number;
  /** Not on Windows. */
  getuid?(): number;
}
type Environment = Readonly<Record<string, string | undefined>>;

/** Where the platform keeps caches of a program of that name; undefined where there is no place. */
export function cacheHome(name: string, env?: Environment): string | undefined {
  const [os, path] = [nodeModule<NodeOs>('node:os'), nodeModule<NodePath>('node:path')];
  const process = nodeModule<{ readonly env: Environment }>('node:process');
  if (!os || !path || !process) return undefined;
  const { XDG_CACHE_HOME: xdg, LOCALAPPDATA: local } = env ?? process.env;
  // The XDG specification says to ignore what is not absolute.
  if (xdg && path.isAbsolute(xdg)) return path.join(xdg, name);
  try {
    const home = os.homedir();
    if (os.platform() === 'win32') return path.join(local ?? path.join(home, 'AppData', 'Local'), name, 'Cache');
    return os.platform() === 'darwin' ? path.join(home, 'Library', 'Caches', name) : path.join(home, '.cache', name);
  } catch {
    return undefined;
  }
}

/** Where this user's folders for what was made or found here are; undefined where there is no place for any, or HOTROD_CACHE says off. */
export const userCacheHome = (): string | undefined =>
  knob('HOTROD_CACHE') === 'off' ? undefined : cacheHome('hotrod');

/** The one of that name. */
export function openUserCache(name: string): CacheFolder | undefined {
  const home = userCacheHome();
  return home === undefined ? undefined : openCacheFolder(`${home}/${name}`);
}

/** Undefined where there is no file system. The folder is made when something is written. */
export function openCacheFolder(folder: string): CacheFolder | undefined {
  const [fs, path] = [nodeModule<NodeFs>('node:fs'), nodeModule<NodePath>('node:path')];
  const process = nodeModule<NodeProcess>('node:process');
  if (!fs || !path || !process) return undefined;
  const fileOf = (key: string): string => path.join(folder, key);
  const user = process.getuid?.();
  const isOurs = ({ uid, mode }: NodeStat): boolean => user === undefined || (uid === user && (mode & BY_OTHERS) === 0);
  const isOurFolder = (): boolean => {
    const stat = fs.lstatSync(folder);
    return stat.isDirectory() && isOurs(stat);
  };
  return {
    folder,
    read: (key) =>
      attempt(() => {
        if (!isOurFolder()) return undefined;
        const file = fileOf(key);
        const descriptor = fs.openSync(file, fs.constants.O_RDONLY | (fs.constants.O_NOFOLLOW ?? 0));
        try {
          const stat = fs.fstatSync(descriptor);
          if (!stat.isFile() || !isOurs(stat)) return undefined;
          const { buffer, byteOffset, length } = fs.readFileSync(descriptor);
          const now = Date.now() / 1000;
          // Of a file system that is not to be written.
          attempt(() => fs.utimesSync(file, now, now));
          return new Uint8Array(buffer, byteOffset, length);
        } finally {
          fs.closeSync(descriptor);
        }
      }),
    write: (key, bytes) =>
      void attempt(() => {
        fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
        if (!isOurFolder()) return;
        // Threads of one process write too.
        const temporary = fileOf(`.${key}.${process.pid}.${Math.random().toString(36).slice(2)}`);
        try {
          fs.writeFileSync(temporary, bytes, { mode: 0o600 });
          fs.renameSync(temporary, fileOf(key));
        } catch (error) {
          fs.rmSync(temporary, { force: true });
          throw error;
        }
      }),
    trim: (maxBytes) => void attempt(() => isOurFolder() && removeOldest(fs, folder, fileOf, maxBytes)),
    remove: (key) => void attempt(() => fs.rmSync(fileOf(key), { force: true })),
  };
}

function attempt<T>(f: () => T): T | undefined {
  try {
    return f();
  } catch {
    return undefined;
  }
}

function removeOldest(fs: NodeFs, folder: string, fileOf: (key: string) => string, maxBytes: number): void {
  const files = fs.readdirSync(folder).flatMap((key) => {
    const stat = attempt(() => fs.lstatSync(fileOf(key)));
    return stat ? [{ key, size: stat.size, mtimeMs: stat.mtimeMs }] : [];
  });
  let total = files.reduce((sum, { size }) => sum + size, 0);
  for (const { key, size } of files.sort((a, b) => a.mtimeMs - b.mtimeMs)) {
    if (total <= maxBytes) return;
    fs.rmSync(fileOf(key), { force: true });
    total -= size;
  }
}
