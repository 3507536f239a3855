# frozen_string_literal: true

# Sidekiq's processes for the drain, forked as Dramatiq's command forks its own:
# ruby sidekiq_workers.rb PROCESSES THREADS
# Its jobs are counted as GoQueue's are: each process maps an eight-byte file and counts up in it.

require "sidekiq/cli"

# Counts finished runs in a mapped file of this process.
class RunCounter
  def initialize(folder)
    @folder = folder
    @lock = Mutex.new
    @runs = 0
  end

  def add
    @lock.synchronize do
      @memory ||= map
      @runs += 1
      @memory.set_value(:u64, 0, @runs)
    end
  end

  private

  def map
    path = File.join(@folder, Process.pid.to_s)
    File.binwrite(path, [0].pack("Q<"))
    File.open(path, "r+b") { |file| IO::Buffer.map(file, 8) }
  end
end

RUNS = RunCounter.new(File.join(ENV.fetch("BENCH_FOLDER"), "runs"))

# Does nothing, and is counted.
class Noop
  include Sidekiq::Worker

  def perform
    RUNS.add
  end
end

# As GoQueue's and Dramatiq's workers are run: no line for each job.
Sidekiq.logger.level = Logger::WARN
Sidekiq.configure_server { |config| config.redis = {url: ENV.fetch("BENCH_REDIS_URL")} }

processes, threads = ARGV.map(&:to_i)
processes.times do
  fork do
    command = Sidekiq::CLI.instance
    command.parse(["-c", threads.to_s, "-q", "bench", "-r", __FILE__])
    command.run
  end
end
Process.waitall
