package serve

import (
	"log/slog"
	"net/http"

	"github.com/weir-registry/weir/origin"
)

// Error answers a request with an error as New's handler does, for whoever stands
// before it and refuses one.
func Error(w http.ResponseWriter, r *http.Request, e *origin.Error) {
	s := &server{log: slog.New(slog.DiscardHandler)}
	s.fail(w, r, e)
}
