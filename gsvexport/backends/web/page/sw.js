// Serves the page from its cache, so that it works without a network, and with the headers that threads need.

const SHARED = {'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp', 'Cross-Origin-Resource-Policy': 'same-origin'};
const NAME = new URL(location.href).searchParams.get('cache');

self.addEventListener('install', event => event.waitUntil(keep()));
self.addEventListener('activate', event => event.waitUntil(settle()));
self.addEventListener('fetch', event => {
  const own = event.request.url.startsWith(self.registration.scope);
  if (own && event.request.method === 'GET') event.respondWith(answer(event.request));
});

async function keep() {
  const cache = await caches.open(NAME), site = await (await fetch('site.json', {cache: 'no-cache'})).json();
  await cache.addAll(['./', 'site.json', ...site.page].map(name => new Request(name, {cache: 'no-cache'})));
  await self.skipWaiting();
}

async function settle() {
  for (const name of await caches.keys()) if (name.startsWith('gsvexport-') && name !== NAME) await caches.delete(name);
  await self.clients.claim();
}

// The list of what there is comes from the network while there is one; everything else from the cache.
async function answer(request) {
  const cache = await caches.open(NAME), fresh = request.url.endsWith('/site.json');
  const kept = () => cache.match(request, {ignoreSearch: true});
  let found = fresh ? null : await kept();
  if (!found)
    try {
      found = await fetch(request);
    } catch (error) {
      found = await kept();
      if (!found) throw error;
    }
  const headers = new Headers(found.headers);
  for (const [name, value] of Object.entries(SHARED)) headers.set(name, value);
  return new Response(found.body, {status: found.status || 200, statusText: found.statusText, headers});
}
