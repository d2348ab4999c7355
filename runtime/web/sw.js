// Keeps the page and its bundle on the device. The page registers this file with its bundle's digest, so that another bundle
// at the same place is another version.

const CACHE = `medge-${new URL(self.location).searchParams.get('v')}`;
const NEEDED = (role) => role.startsWith('web.') || ['vision', 'labels', 'scores', 'parity.page'].includes(role);
// Isolation from other sites lets the page use several threads.
const ISOLATED = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };

self.addEventListener('install', (event) => event.waitUntil((async () => {
  const cache = await caches.open(CACHE);
  const response = await fetch('manifest.json', { cache: 'no-store' });
  const { files } = await response.clone().json();
  await cache.put('manifest.json', response);
  await cache.addAll(['./', ...files.filter(({ role }) => NEEDED(role)).map(({ path }) => path)]);
  await self.skipWaiting();
})()));

self.addEventListener('activate', (event) => event.waitUntil((async () => {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith('medge-') && name !== CACHE).map((name) => caches.delete(name)));
  await self.clients.claim();
})()));

self.addEventListener('fetch', (event) => {
  if (event.request.method !== 'GET' || new URL(event.request.url).origin !== self.location.origin) return;
  event.respondWith(answer(event.request));
});

async function answer(request) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(request, { ignoreSearch: true });
  // The manifest says whether there is a new bundle: from the network first, all else from the device first.
  if (new URL(request.url).pathname.endsWith('/manifest.json')) {
    return (await fetch(request, { cache: 'no-store' }).catch(() => null)) ?? kept ?? Response.error();
  }
  const found = kept ?? (await fetch(request));
  const headers = new Headers(found.headers);
  Object.entries(ISOLATED).forEach(([name, value]) => headers.set(name, value));
  return new Response(found.body, { status: found.status, statusText: found.statusText, headers });
}
