package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// More requests than may be served at once wait; then they are told to come again.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := make(chan struct{})
		var turns turns
		turns.configure(1, 10*time.Second)
		h := turns.queue(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-held }))
		ask := func() *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v2/", nil))
			return w
		}
		var all sync.WaitGroup
		all.Go(func() { ask() })
		synctest.Wait()
		begin := time.Now()
		if w := ask(); w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "UNAVAILABLE") || time.Since(begin) != 10*time.Second {
			t.Errorf("after %v: %d %v %s", time.Since(begin), w.Code, w.Header(), w.Body)
		}
		all.Go(func() {
			if w := ask(); w.Code != 200 {
				t.Errorf("one whose turn comes in time: %d", w.Code)
			}
		})
		time.Sleep(5 * time.Second)
		leaving, leave := context.WithCancel(t.Context())
		all.Go(func() {
			defer func() {
				if fault := recover(); fault != http.ErrAbortHandler {
					t.Errorf("one who left ends with %v", fault)
				}
			}()
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/v2/", nil).WithContext(leaving))
		})
		synctest.Wait()
		leave()
		synctest.Wait()
		close(held)
		all.Wait()
	})
}
