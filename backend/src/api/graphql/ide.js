// Sends what GraphiQL asks: over HTTP, or over WebSocket when it is a subscription. The credential comes from the
// page's header editor, in both cases.
'use strict';

(() => {
  const ENDPOINT = '/graphql';
  const PROTOCOL = 'graphql-transport-ws';

  // Whether the chosen operation of the document is a subscription.
  function isSubscription(document, operationName) {
    const operations = (document?.definitions ?? []).filter((item) => item.kind === 'OperationDefinition');
    const chosen = operationName
      ? operations.find((operation) => operation.name?.value === operationName)
      : operations[0];
    return chosen?.operation === 'subscription';
  }

  async function overHttp(params, headers) {
    const response = await fetch(ENDPOINT, {
      method: 'POST',
      credentials: 'omit',
      headers: {
        ...headers,
        Accept: 'application/graphql-response+json, application/json;q=0.9',
        'Content-Type': 'application/json',
      },
      body: JSON.stringify(params),
    });
    return response.json();
  }

  // One socket for each subscription: closing it ends what the server does for it.
  function overSocket(params, headers) {
    return {
      subscribe(observer) {
        const url = new URL(ENDPOINT + '/ws', window.location.href);
        url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
        const socket = new WebSocket(url, PROTOCOL);
        const say = (message) => socket.send(JSON.stringify(message));
        let done = false;
        const finish = (tell) => {
          if (done) return;
          done = true;
          socket.close(1000);
          tell();
        };
        socket.onopen = () => say({ type: 'connection_init', payload: headers });
        socket.onmessage = (event) => {
          const message = JSON.parse(event.data);
          switch (message.type) {
            case 'connection_ack':
              say({ type: 'subscribe', id: '1', payload: params });
              break;
            case 'ping':
              say({ type: 'pong' });
              break;
            case 'next':
              observer.next(message.payload);
              break;
            case 'error':
              finish(() => observer.next({ errors: message.payload }));
              break;
            case 'complete':
              finish(() => observer.complete());
              break;
          }
        };
        socket.onclose = (event) => {
          const why = event.reason || 'the connection was closed';
          finish(() => observer.next({ errors: [{ message: `${event.code}: ${why}` }] }));
        };
        return { unsubscribe: () => finish(() => {}) };
      },
    };
  }

  function fetcher(params, options) {
    const headers = options?.headers ?? {};
    return isSubscription(options?.documentAST, params.operationName)
      ? overSocket(params, headers)
      : overHttp(params, headers);
  }

  const root = ReactDOM.createRoot(document.getElementById('graphiql'));
  root.render(
    React.createElement(GraphiQL, {
      fetcher,
      defaultHeaders: '{\n  "Authorization": "Bearer "\n}',
      shouldPersistHeaders: false,
      defaultEditorToolsVisibility: 'headers',
    }),
  );
})();
