"""Resources and subresources with code of their own: reviews, tokens, bindings, evictions, streams, proxies."""
