# Holds every include line of the tree against the table of the house: who may know whom. With one
# include root a wrong include builds and links, so somebody has to read them.
#   cmake -D ROOT=<tree> -P layers_test.cmake                  ends non-zero, naming file and line
#   cmake -D SELF_TEST=<empty folder> -P layers_test.cmake     plants wrong includes, must find them

# room: what it may include, as beginnings of paths. The longest room that a file's path begins with
# counts. Outside of common/net and the loops that drive it only the plain structs of common/net are
# open to all: what does not know MPI is tested without mpirun.
set(TABLE
  # common: base < number < {wire, io, net} < job.
  "common/base/: common/base/"
  "common/number/: common/base/ common/number/"
  "common/wire/: common/base/ common/number/ common/wire/"
  "common/io/: common/base/ common/number/ common/io/"
  "common/net/: common/base/ common/number/ common/net/"
  "common/job/: common/"
  # ps: a server is a state machine; the loop around it alone knows MPI.
  # {update, save} know no decisions, and decide no saving; above them the server. What a
  # checkpoint holds of the decisions is plain: where training stands, and the clip's state.
  "ps/update/: common/base/ common/number/ common/wire/ common/net/messages.hpp common/job/ ps/update/"
  "ps/decide/: common/base/ common/number/ common/io/ common/net/messages.hpp common/job/ ps/update/ ps/decide/"
  "ps/save/: common/base/ common/number/ common/wire/ common/io/ common/net/messages.hpp common/job/ ps/update/ ps/decide/standing.hpp ps/decide/clip.hpp ps/save/"
  "ps/decide/rollback: common/base/ common/net/messages.hpp ps/decide/clip.hpp ps/decide/standing.hpp ps/decide/rollback.hpp"
  "ps/: common/base/ common/number/ common/wire/ common/io/ common/net/messages.hpp common/job/ ps/"
  "ps/server_loop: common/ ps/"
  # worker: kernels < layers < models < {train, score}. The groups they sum over are interfaces.
  "worker/kernels/: common/base/ common/number/ worker/kernels/"
  "worker/layers/: common/base/ common/number/ common/job/ worker/data/columns.hpp worker/groups/tensor_group.hpp worker/groups/context_group.hpp worker/kernels/ worker/layers/"
  "worker/models/: common/base/ common/number/ common/job/ worker/data/columns.hpp worker/groups/frame.hpp worker/groups/tensor_group.hpp worker/groups/context_group.hpp worker/kernels/ worker/layers/ worker/models/"
  "worker/schedule/: common/base/ common/number/ worker/schedule/"
  "worker/groups/: common/ worker/groups/"
  "worker/data/: common/base/ common/number/ common/io/ common/job/ worker/layers/pass.hpp worker/models/unit.hpp worker/data/"
  "worker/score/: common/base/ common/number/ common/io/ common/job/ worker/groups/ worker/kernels/ worker/layers/ worker/models/ worker/data/ worker/score/"
  "worker/train/: common/ worker/"
  # launch: the command line above its rooms.
  "launch/run/: common/base/ common/number/ common/io/ common/net/messages.hpp common/job/ worker/kernels/cpu/blas.hpp launch/run/"
  "launch/terminal/: common/base/ common/number/ launch/run/metrics.hpp launch/terminal/"
  "launch/supervise/: common/base/ common/io/ common/job/layout.hpp launch/run/ launch/supervise/ launch/command.hpp launch/run_config.hpp"
  "launch/trace/: common/ launch/trace/"
  "launch/scripts/: common/base/ common/number/ common/io/ worker/data/ launch/scripts/"
  "launch/report/: common/base/ common/number/ common/io/ common/job/ launch/terminal/ launch/run/ launch/trace/ launch/report/ worker/schedule/ worker/train/config.hpp launch/command.hpp launch/run_config.hpp"
  "launch/: common/ ps/ worker/ launch/"
  "tests/: common/ ps/ worker/ launch/ tests/"
  "benchmarks/: common/ ps/ worker/ launch/ benchmarks/")

# header: the only files that may include it, as a regular expression. Raw handles stay in one room,
# and what costs seconds a file to compile stays out of headers.
set(LIBRARIES
  "mpi[.]h: ^(tests/)?common/net/|^tests/faults/frame_dropper"
  "hdf5[.]h|H5.*[.]h: ^(tests/)?common/io/"
  "dnnl.*: ^worker/kernels/cpu/onednn[.]cpp$"
  "boost/.*: [.]cpp$"
  "spdlog/.*: [.]cpp$"
  "nlohmann/.*: [.]cpp$"
  "cereal/archives/.*: [.]cpp$")

# Sets ${allowed} to what the row of the longest room around `file` allows.
function(row_of file allowed)
  set(best_length 0)
  foreach(row IN LISTS TABLE)
    string(REGEX MATCH "^([^:]+): (.*)$" unused "${row}")
    set(room "${CMAKE_MATCH_1}")
    set(row_allows "${CMAKE_MATCH_2}")
    string(FIND "${file}" "${room}" position)
    string(LENGTH "${room}" length)
    if(position EQUAL 0 AND length GREATER best_length)
      set(best_length ${length})
      string(REPLACE " " ";" best "${row_allows}")
    endif()
  endforeach()
  if(best_length EQUAL 0)
    message(FATAL_ERROR "${file} lies in no room of the table in tests/layers_test.cmake")
  endif()
  set(${allowed} "${best}" PARENT_SCOPE)
endfunction()

# Sets ${why} to what is wrong with including `header` from `file`, or to nothing.
function(judge file allowed quote header why)
  set(wrong "")
  if(quote STREQUAL "\"")
    set(wrong "the table has no way from here to ${header}")
    foreach(beginning IN LISTS allowed)
      string(FIND "${header}" "${beginning}" position)
      if(position EQUAL 0)
        set(wrong "")
      endif()
    endforeach()
    if(NOT header MATCHES "/")
      set(wrong "includes are written from the root of the tree")
    endif()
  else()
    foreach(row IN LISTS LIBRARIES)
      string(REGEX MATCH "^(.+): ([^:]+)$" unused "${row}")
      set(place "${CMAKE_MATCH_2}")
      if("${header}" MATCHES "^(${CMAKE_MATCH_1})$" AND NOT "${file}" MATCHES "${place}")
        set(wrong "<${header}> belongs to files that match ${place}")
      endif()
    endforeach()
  endif()
  set(${why} "${wrong}" PARENT_SCOPE)
endfunction()

function(check_tree root)
  set(violations "")
  set(line_count 0)
  file(GLOB_RECURSE files RELATIVE ${root} ${root}/common/*.[ch]pp ${root}/ps/*.[ch]pp
    ${root}/worker/*.[ch]pp ${root}/launch/*.[ch]pp ${root}/tests/*.[ch]pp
    ${root}/benchmarks/*.[ch]pp)
  if(NOT files)
    message(FATAL_ERROR "no sources under ${root}")
  endif()
  foreach(file IN LISTS files)
    row_of(${file} allowed)
    file(STRINGS ${root}/${file} lines REGEX "^[ \t]*#[ \t]*include[ \t]*[\"<]")
    foreach(line IN LISTS lines)
      math(EXPR line_count "${line_count} + 1")
      string(REGEX MATCH "([\"<])([^\">]+)" unused "${line}")
      set(header "${CMAKE_MATCH_2}")
      judge(${file} "${allowed}" "${CMAKE_MATCH_1}" "${header}" why)
      if(why)
        # The number of the line: one more than the line ends before it.
        file(READ ${root}/${file} content)
        string(FIND "${content}" "${line}" begin)
        string(SUBSTRING "${content}" 0 ${begin} before)
        string(REGEX REPLACE "[^\n]" "" before "${before}")
        string(LENGTH "${before}" number)
        math(EXPR number "${number} + 1")
        string(APPEND violations "${file}:${number}: ${header}: ${why}\n")
      endif()
    endforeach()
  endforeach()
  if(violations)
    message(FATAL_ERROR "\n${violations}")
  endif()
  list(LENGTH files file_count)
  message(STATUS "${line_count} include lines of ${file_count} files keep to the table")
endfunction()

# A tree with one file of two lines, the second of them `line`, must be refused or taken.
function(plant verdict file line)
  file(REMOVE_RECURSE ${SELF_TEST})
  file(WRITE ${SELF_TEST}/${file} "// planted; [by the self-test\n${line}\n")
  execute_process(COMMAND ${CMAKE_COMMAND} -D ROOT=${SELF_TEST} -P ${CMAKE_CURRENT_LIST_FILE}
    RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(verdict STREQUAL refused)
    string(FIND "${output}" "${file}:2: " position)
    if(code EQUAL 0 OR position EQUAL -1)
      message(FATAL_ERROR "'${line}' in ${file} was not found (exit ${code}):\n${output}")
    endif()
  elseif(NOT code EQUAL 0)
    message(FATAL_ERROR "'${line}' in ${file} was refused:\n${output}")
  endif()
endfunction()

if(SELF_TEST)
  plant(refused common/number/view.hpp "#include \"common/job/layout.hpp\"")
  plant(refused common/io/file.cpp "#include \"common/net/mpi.hpp\"")
  plant(refused common/job/layout.cpp "  #  include \"ps/decide/clip.hpp\"")
  plant(refused ps/update/store.cpp "#include \"worker/models/unit.hpp\"")
  plant(refused ps/update/store.cpp "#include \"common/net/mpi.hpp\"")
  plant(refused ps/update/store.cpp "#include \"ps/decide/clip.hpp\"")
  plant(refused ps/save/snapshot.cpp "#include \"ps/decide/decide.hpp\"")
  plant(refused ps/decide/rollback.cpp "#include \"ps/decide/decide.hpp\"")
  plant(refused worker/kernels/cpu.cpp "#include \"worker/layers/linear.hpp\"")
  plant(refused worker/layers/linear.cpp "#include \"worker/models/unit.hpp\"")
  plant(refused worker/layers/linear.cpp "#include \"worker/groups/mpi_tensor_group.hpp\"")
  plant(refused worker/train/trainer.cpp "#include \"ps/update/store.hpp\"")
  plant(refused worker/train/trainer.cpp "#include \"launch/job.hpp\"")
  plant(refused worker/layers/linear.cpp "#include \"linear.hpp\"")
  plant(refused worker/train/trainer.cpp "#include <mpi.h>")
  plant(refused ps/save/snapshot.cpp "#include <hdf5.h>")
  plant(refused common/base/log.hpp "#include <spdlog/logger.h>")
  plant(refused common/net/control.hpp "#include <cereal/archives/binary.hpp>")
  plant(taken common/base/log.cpp "#include <spdlog/logger.h>")
  plant(taken common/net/mpi.hpp "#include <mpi.h>")
  plant(taken ps/server_loop.cpp "#include \"common/net/mpi.hpp\"")
  plant(taken worker/layers/linear.cpp "#include \"worker/groups/tensor_group.hpp\"")
  plant(taken launch/job.cpp "#include \"ps/update/store.hpp\"")
  plant(taken worker/train/trainer.cpp "// #include \"ps/update/store.hpp\"")
  file(REMOVE_RECURSE ${SELF_TEST})
  message(STATUS "every planted include was found")
else()
  check_tree(${ROOT})
endif()
