// Handlers of the chaos jobs for the worker of examples/remote_worker_go: they leave lines in a file of the test.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

func init() {
	clear(handlers)
	handlers["quick"] = effects(func(context.Context, payload) error { return nil })
	handlers["slow"] = effects(nap)
	handlers["slow_at_first"] = effects(nap)
	handlers["fails_once"] = effects(func(_ context.Context, said payload) error {
		if said.attempt == 1 {
			return errors.New("the first attempt fails")
		}
		return nil
	})
}

type payload struct {
	Token   string  `json:"token"`
	Seconds float64 `json:"seconds"`
	Again   float64 `json:"again_seconds"`
	attempt int
	fence   int
}

func effects(work func(context.Context, payload) error) Handler {
	return func(ctx context.Context, job *Job) (any, error) {
		said := payload{attempt: job.Attempt, fence: job.Fence}
		if err := json.Unmarshal(job.Payload, &said); err != nil {
			return nil, Discard{err.Error()}
		}
		note(job, "start")
		if err := work(ctx, said); err != nil {
			return nil, err
		}
		note(job, "end")
		return said.Token, nil
	}
}

func nap(ctx context.Context, said payload) error {
	seconds := said.Seconds
	if said.fence > 1 && said.Again > 0 {
		seconds = said.Again
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Duration(seconds * float64(time.Second))):
		return nil
	}
}

// note adds a whole line to the file of side effects, if there is one.
func note(job *Job, what string) {
	path := os.Getenv("CHAOS_SIDE_EFFECTS")
	if path == "" {
		return
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return
	}
	defer file.Close()
	now := float64(time.Now().UnixMicro()) / 1e6
	fmt.Fprintf(file, "%d %d %d %d %s %.6f\n", job.ID, job.Fence, job.Attempt, os.Getpid(), what, now)
}
