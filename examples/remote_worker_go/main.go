// A worker for GoQueue in Go: one file, the standard library alone.
//
//	GOQUEUE_URL=http://127.0.0.1:8000 GOQUEUE_API_KEY=gq_… go run main.go -queue mail -slots 4
//
// Put your own functions into the map handlers, one for each job type. What a handler returns is the result of
// the job. An error is a failed attempt, which the type of the job retries; a Discard fails it for good, and a
// RetryAfter says when to retry. The context of a handler ends when the job was cancelled, when its lease is
// lost, when its time limit is over, or when this process has to stop now; Job.Fence rises with each lease of a
// job, for side effects that must not be overtaken by an earlier attempt.
//
// docs/remote-workers.md describes the protocol.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// Handler runs one job. Its result is any value that encoding/json writes, or nil.
type Handler func(ctx context.Context, job *Job) (any, error)

// handlers has the job types that this worker knows.
var handlers = map[string]Handler{
	"greet": func(ctx context.Context, job *Job) (any, error) {
		var payload struct {
			Name string `json:"name"`
		}
		if err := json.Unmarshal(job.Payload, &payload); err != nil {
			return nil, Discard{err.Error()}
		}
		job.Log(ctx, "greeting "+payload.Name)
		return map[string]string{"greeting": "hello " + payload.Name}, nil
	},
}

const (
	waitSeconds = 20
	answerTime  = 10 * time.Second
	graceTime   = 25 * time.Second
)

var pauses = []time.Duration{100e6, 200e6, 500e6, 1e9, 2e9, 5e9}

// Discard is the error of a job that fails for good.
type Discard struct{ Reason string }

func (d Discard) Error() string { return d.Reason }

// RetryAfter is the error of an attempt that is to be repeated after so long.
type RetryAfter struct {
	Wait   time.Duration
	Reason string
}

func (r RetryAfter) Error() string { return r.Reason }

// Why the context of a handler has ended.
var (
	errCancelled = errors.New("the job was cancelled")
	errLost      = errors.New("the lease is lost")
	errStopping  = errors.New("the worker stops")
	errTime      = errors.New("the time limit is over")
)

// Job is a job as the service leases it.
type Job struct {
	Token      string          `json:"token"`
	ID         int64           `json:"id"`
	Queue      string          `json:"queue"`
	Type       string          `json:"type"`
	Attempt    int             `json:"attempt"`
	MaxRetries int             `json:"max_retries"`
	Fence      int             `json:"fence"`
	Payload    json.RawMessage `json:"payload"`
	TimeLimit  *float64        `json:"time_limit_seconds"`

	worker *Worker
}

// Progress notes how far the job has come; what does not arrive is said again by the next call.
func (j *Job) Progress(ctx context.Context, fraction float64, message string) {
	said := map[string]any{"progress": fraction, "message": message}
	_, _ = j.worker.ask(ctx, "/leases/"+j.Token+"/progress", said, nil, answerTime)
}

// Log adds lines to the log of the attempt.
func (j *Job) Log(ctx context.Context, lines ...string) {
	_, _ = j.worker.ask(ctx, "/leases/"+j.Token+"/log", map[string]any{"lines": lines}, nil, answerTime)
}

// lease is a job that this process holds.
type lease struct {
	job     *Job
	end     context.CancelCauseFunc
	ended   error
	heardAt time.Time
}

// Worker leases jobs, runs them, and says what became of them.
type Worker struct {
	url, key, queue, name string
	slots                 int
	client                *http.Client

	mutex          sync.Mutex
	held           map[string]*lease
	leaseTime      time.Duration
	heartbeatTime  time.Duration
	free           chan struct{}
	stopping       context.Context
	stop           context.CancelFunc
	runningHandler sync.WaitGroup
}

func newWorker(queue string, slots int) *Worker {
	address := os.Getenv("GOQUEUE_URL")
	if address == "" {
		address = "http://127.0.0.1:8000"
	}
	random := make([]byte, 4)
	_, _ = rand.Read(random)
	host, _ := os.Hostname()
	stopping, stop := context.WithCancel(context.Background())
	return &Worker{
		url:   address,
		key:   os.Getenv("GOQUEUE_API_KEY"),
		queue: queue,
		// No other process has this name, nor the next one that is started here.
		name:          fmt.Sprintf("%s:%d:%s", host, os.Getpid(), hex.EncodeToString(random)),
		slots:         slots,
		client:        &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: slots + 2}},
		held:          map[string]*lease{},
		leaseTime:     15 * time.Second,
		heartbeatTime: 5 * time.Second,
		free:          make(chan struct{}, slots),
		stopping:      stopping,
		stop:          stop,
	}
}

// ask sends one request; the status of its answer, whose document is read into answer. An error: there was none.
func (w *Worker) ask(ctx context.Context, path string, said, answer any, within time.Duration) (int, error) {
	body, err := json.Marshal(said)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	if w.key != "" {
		request.Header.Set("Authorization", "Bearer "+w.key)
	}
	response, err := w.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	if answer != nil && response.StatusCode < 300 && len(text) > 0 {
		err = json.Unmarshal(text, answer)
	}
	return response.StatusCode, err
}

// say tells how an attempt ended until there is an answer: saying it twice is as good as once.
func (w *Worker) say(token, what string, said any) int {
	for tries := 0; ; tries++ {
		status, err := w.ask(context.Background(), "/leases/"+token+"/"+what, said, nil, answerTime)
		if err == nil && status < 500 && status != http.StatusTooManyRequests {
			return status
		}
		slog.Warn("no answer", "what", what, "status", status, "error", err)
		time.Sleep(pauses[min(tries, len(pauses)-1)])
	}
}

// run runs one job, and says what became of it.
func (w *Worker) run(job *Job) {
	defer w.runningHandler.Done()
	job.worker = w
	ctx, end := context.WithCancelCause(context.Background())
	defer end(nil)
	if job.TimeLimit != nil {
		limit := time.Duration(*job.TimeLimit * float64(time.Second))
		timer := time.AfterFunc(limit, func() { end(errTime) })
		defer timer.Stop()
	}
	one := &lease{job: job, end: end, heardAt: time.Now()}
	w.mutex.Lock()
	w.held[job.Token] = one
	w.mutex.Unlock()

	started := time.Now()
	result, err := w.call(ctx, job)
	seconds := time.Since(started).Seconds()

	w.mutex.Lock()
	ended := one.ended
	w.mutex.Unlock()
	switch {
	case errors.Is(ended, errLost):
		slog.Warn("lease lost", "job_id", job.ID, "fence", job.Fence)
	case err != nil:
		w.say(job.Token, "fail", failure(err, ended, seconds))
	default:
		said := map[string]any{"result": result, "run_seconds": seconds}
		switch status := w.say(job.Token, "complete", said); {
		case status == http.StatusRequestEntityTooLarge:
			w.say(job.Token, "fail", map[string]any{"error": "the result is too large", "discard": true})
		case status >= 400:
			slog.Warn("end refused", "job_id", job.ID, "fence", job.Fence, "status", status)
		}
	}
	w.mutex.Lock()
	delete(w.held, job.Token)
	w.mutex.Unlock()
	<-w.free
}

// call runs the handler of a job; a panic is an error.
func (w *Worker) call(ctx context.Context, job *Job) (result any, err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("panic: %v", problem)
		}
	}()
	handler, known := handlers[job.Type]
	if !known {
		return nil, fmt.Errorf("no handler for the type %q", job.Type)
	}
	return handler(ctx, job)
}

// failure is what is said of an attempt that failed, was cancelled, or is given back.
func failure(err, ended error, seconds float64) map[string]any {
	said := map[string]any{"error": shortened(err.Error()), "run_seconds": seconds}
	var discard Discard
	var retry RetryAfter
	switch {
	case errors.Is(ended, errCancelled):
		said["cancelled"] = true
	case errors.Is(ended, errStopping):
		said["interrupted"] = true
	case errors.As(err, &discard):
		said["discard"] = true
	case errors.As(err, &retry) && retry.Wait > 0:
		said["retry_after"] = retry.Wait.Seconds()
	}
	return said
}

func shortened(text string) string {
	characters := []rune(text)
	if len(characters) > 4000 {
		characters = characters[:4000]
	}
	return string(characters)
}

// finish ends the context of a held job, for the first reason that there is.
func (w *Worker) finish(token string, why error) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if one, is := w.held[token]; is && (one.ended == nil || errors.Is(why, errLost)) {
		one.ended = why
		one.end(why)
	}
}

type heartbeatAnswer struct {
	LeaseSeconds float64  `json:"lease_seconds"`
	Cancel       bool     `json:"cancel"`
	Stop         bool     `json:"stop"`
	Cancelled    []string `json:"cancelled_tokens"`
	Lost         []string `json:"lost_tokens"`
}

// beat renews the leases of all jobs, and stops what is to be stopped.
func (w *Worker) beat() {
	for {
		w.mutex.Lock()
		pause := w.heartbeatTime / 2
		w.mutex.Unlock()
		time.Sleep(pause)
		for tokens := w.tokens(); len(tokens) > 0; {
			askedAt := time.Now()
			var answer heartbeatAnswer
			said := map[string]any{"tokens": tokens[1:]}
			status, err := w.ask(context.Background(), "/leases/"+tokens[0]+"/heartbeat", said, &answer, answerTime)
			if err == nil && (status == http.StatusNotFound || status == http.StatusConflict) {
				w.finish(tokens[0], errLost)
				tokens = tokens[1:]
				continue
			}
			if err == nil && status == http.StatusOK {
				w.heard(tokens, answer, askedAt)
			}
			break
		}
		w.loseOverdue()
	}
}

// heard takes what a heartbeat was answered with.
func (w *Worker) heard(tokens []string, answer heartbeatAnswer, askedAt time.Time) {
	lost := map[string]bool{}
	for _, token := range answer.Lost {
		lost[token] = true
		w.finish(token, errLost)
	}
	w.mutex.Lock()
	w.leaseTime = time.Duration(answer.LeaseSeconds * float64(time.Second))
	for _, token := range tokens {
		if one, is := w.held[token]; is && !lost[token] {
			one.heardAt = askedAt
		}
	}
	w.mutex.Unlock()
	if answer.Cancel {
		w.finish(tokens[0], errCancelled)
	}
	for _, token := range answer.Cancelled {
		w.finish(token, errCancelled)
	}
	if answer.Stop {
		w.stop()
	}
}

func (w *Worker) tokens() []string {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	var found []string
	for token, one := range w.held {
		if !errors.Is(one.ended, errLost) {
			found = append(found, token)
		}
	}
	return found
}

// loseOverdue gives up jobs of which the service has not said for a lease that we hold them.
func (w *Worker) loseOverdue() {
	for _, token := range w.tokens() {
		w.mutex.Lock()
		one, is := w.held[token]
		overdue := is && time.Since(one.heardAt) > w.leaseTime
		w.mutex.Unlock()
		if overdue {
			w.finish(token, errLost)
		}
	}
}

type leaseAnswer struct {
	LeaseSeconds     float64 `json:"lease_seconds"`
	HeartbeatSeconds float64 `json:"heartbeat_seconds"`
	Stop             bool    `json:"stop"`
	Jobs             []*Job  `json:"jobs"`
}

// take leases jobs while there is room, until this process shall stop.
func (w *Worker) take(path string, types []string) {
	for failures := 0; w.stopping.Err() == nil; {
		select {
		case w.free <- struct{}{}:
		case <-w.stopping.Done():
			return
		}
		room := 1
		for room < min(w.slots, 100) {
			select {
			case w.free <- struct{}{}:
				room++
				continue
			default:
			}
			break
		}
		var answer leaseAnswer
		said := map[string]any{
			"worker": w.name, "types": types, "slots": w.slots, "limit": room,
			"wait_seconds": waitSeconds, "language": "Go",
		}
		// What was leased at the moment of a stop is taken back with the goodbye.
		status, err := w.ask(w.stopping, path, said, &answer, waitSeconds*time.Second+answerTime)
		for range room - len(answer.Jobs) {
			<-w.free
		}
		if err != nil || status != http.StatusOK {
			if w.stopping.Err() == nil {
				slog.Warn("no lease", "status", status, "error", err)
				time.Sleep(pauses[min(failures, len(pauses)-1)])
			}
			failures++
			continue
		}
		failures = 0
		w.mutex.Lock()
		w.leaseTime = time.Duration(answer.LeaseSeconds * float64(time.Second))
		w.heartbeatTime = time.Duration(answer.HeartbeatSeconds * float64(time.Second))
		w.mutex.Unlock()
		for _, job := range answer.Jobs {
			w.runningHandler.Add(1)
			go w.run(job)
		}
		if answer.Stop {
			w.stop()
		}
	}
}

// end waits for the jobs that run, gives back those that take too long, and says goodbye.
func (w *Worker) end(path string, types []string) {
	slog.Info("stopping", "worker", w.name, "jobs", len(w.tokens()))
	done := make(chan struct{})
	go func() { w.runningHandler.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(graceTime):
		for _, token := range w.tokens() {
			w.finish(token, errStopping)
		}
		select {
		case <-done:
		case <-time.After(5 * time.Second):
		}
	}
	said := map[string]any{"worker": w.name, "types": types, "goodbye": true}
	_, _ = w.ask(context.Background(), path, said, nil, answerTime)
}

func main() {
	queue := flag.String("queue", "", "the queue whose jobs are run")
	slots := flag.Int("slots", 1, "how many jobs run at once")
	flag.Parse()
	worker := newWorker(*queue, *slots)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() { <-signals; worker.stop() }()
	var types []string
	for name := range handlers {
		types = append(types, name)
	}
	path := "/queues/" + url.PathEscape(*queue) + "/lease"
	slog.Info("started", "worker", worker.name, "queue", *queue, "slots", *slots)
	go worker.beat()
	worker.take(path, types)
	worker.end(path, types)
}
