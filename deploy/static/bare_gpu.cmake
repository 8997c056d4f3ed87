# bare_gpu: programs for a machine with a GPU, its driver and the C library, and little else. The
# programs named here are linked statically, stripped and put into bin/ of the build folder, next to
# a small model for them to serve.
set(programs baram)
if(BARAM_TESTS)
  # What tests/gpu/check.sh runs.
  list(APPEND programs cuda_cublaslt_test identities_test model_golden_test op_test
    step_graphs_cuda_test)
endif()
if(BARAM_BENCH)
  list(APPEND programs op_bench engine_bench)
endif()

set(bin ${PROJECT_BINARY_DIR}/bin)
foreach(program IN LISTS programs)
  list(APPEND strip COMMAND ${CMAKE_STRIP} -o ${bin}/${program} $<TARGET_FILE:${program}>)
endforeach()
if(BARAM_TESTS AND BARAM_SERVER)
  set(make_model COMMAND tiny_folder ${bin}/tiny-model)
endif()
add_custom_target(bare_gpu
  COMMAND ${CMAKE_COMMAND} -E rm -rf ${bin}
  COMMAND ${CMAKE_COMMAND} -E make_directory ${bin}
  ${strip}
  ${make_model}
  COMMAND ${CMAKE_CURRENT_LIST_DIR}/check_bare.sh ${bin}
  VERBATIM)
add_dependencies(bare_gpu ${programs})
